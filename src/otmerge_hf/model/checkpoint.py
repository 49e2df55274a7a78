"""What a checkpoint holds: the whole merge, or what was learnt and where the encoders come from."""

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .fetching import HUB_OPTIONS, fill_encoder
from .modality import SIDES
from .sources import align_in_memory, describe_encoders, without_folders
from .unmerge import put_encoder, write_encoders


logger = logging.get_logger(__name__)
# Each is called with a folder that a merge was saved into; the package adds its model card, remote code adds none.
AFTER_SAVING: list[Callable[[str | os.PathLike], None]] = []
# Each is called with a folder that goes up to the Hub, the name there, and the README that the folder had before
# transformers put its own there.
BEFORE_UPLOADING: list[Callable[[str | os.PathLike, str, str | None], None]] = []
# Formats of other libraries, by name; each is called with a merge and what its method was given. As above.
EXPORTERS: dict[str, Callable[..., Path]] = {}
TAGS = ("otmerge", "optimal-transport", "multimodal", "merge")  # by which the Hub finds merges


class CheckpointMixin:
    """Saving and loading with or without the encoders; a base of [`OTMergePreTrainedModel`]."""

    # Folder under which `checkpoint-<step>`, as Trainer writes them, hold no frozen encoders; set for the time of a
    # training by `training.AdapterCheckpoints`. One that raises leaves it set: other trainings' checkpoints are whole.
    adapter_checkpoints: str | None = None
    checkpoints_go_up: bool = False  # whether that training pushes them to the Hub
    _keys_to_ignore_on_save: set[str]
    _readme: str | None = None  # of the folder that is being saved and pushed, as it was before

    def __init__(self, config):
        super().__init__(config)
        self.model_tags = list(TAGS)
        if not config.has_encoder_weights:  # `from_pretrained` fetches them
            self._keys_to_ignore_on_load_missing = [rf"(^|\.)({'|'.join(SIDES)})_encoder\."]

    def named_encoders(self) -> dict[str, PreTrainedModel]:
        """Both encoders, by side; those that there are."""
        base = getattr(self, self.base_model_prefix, self)
        found = {side: getattr(base, f"{side}_encoder", None) for side in SIDES}
        return {side: encoder for side, encoder in found.items() if encoder is not None}

    @classmethod
    def from_pretrained(
        cls,
        *args,
        encoders: dict[str, str | os.PathLike | PreTrainedModel] | None = None,
        check_encoders: bool = True,
        **kwargs,
    ):
        """Load a saved merge, fetching the encoders that are not in it.

        Args:
            *args: As of [`PreTrainedModel.from_pretrained`].
            encoders: Name, folder or instance of each encoder (`"context"`, `"query"`) that is not to be fetched from
                where the configuration says; for merges that were saved with `save_encoders=False`.
            check_encoders: Refuse an encoder whose weights are not those that the adapters were made for.
            **kwargs: As of [`PreTrainedModel.from_pretrained`].

        Raises:
            OSError: If an encoder is not found.
            ValueError: If an encoder is another one, or `encoders` is given for a merge that has its own.
        """
        for side in encoders or ():
            if side not in SIDES:
                raise ValueError(f"`encoders` names {side!r}; expected some of {', '.join(SIDES)}.")
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if not model.config.has_encoder_weights:
            hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
            for side in SIDES:
                fill_encoder(model, side, (encoders or {}).get(side), check_encoders, hub)
            model.config.has_encoder_weights = True
        elif encoders:
            raise ValueError("`encoders` is given, but the checkpoint holds its own; see `swap_encoder`.")
        align_in_memory(model)
        model.freeze_encoders()  # loading replaces every parameter by one that wants a gradient
        model.head_is_untrained = hasattr(model, "classifier") and model.config.architectures == ["OTMergeModel"]
        return loaded

    def save_pretrained(
        self,
        save_directory,
        *args,
        save_encoders: bool | None = None,
        keep_folders: bool | None = None,
        save_original_format: bool = False,
        **kwargs,
    ):
        """Save weights (safetensors), configuration, and the code that loads them where this package is missing.

        Args:
            save_directory: Folder.
            *args: As of [`PreTrainedModel.save_pretrained`].
            save_encoders: Whether the encoders' weights go into the folder, which then needs nothing else. Without
                them it says where they come from, and `from_pretrained` fetches and checks them. None: with them,
                except in the checkpoints of a Trainer that has [`training.AdapterCheckpoints`].
            keep_folders: Whether to say of encoders that are left out in which folder of this machine they lie; by
                default, unless the merge, or a training's checkpoints, are pushed to the Hub.
            save_original_format: Off by default: Trainer's raw `load_state_dict` does not undo the key renaming that
                transformers applies to some encoders, and would silently leave them unloaded.
            **kwargs: As of [`PreTrainedModel.save_pretrained`].

        Raises:
            ValueError: If an encoder shall be left out that learns, or is not as it was loaded.
        """
        records = self._records_instead_of_encoders(save_directory, save_encoders)
        if keep_folders is None:
            goes_up = self.checkpoints_go_up and self._is_thin(save_directory)
            keep_folders = not (goes_up or kwargs.get("push_to_hub"))
        if records is not None and not keep_folders:
            records = without_folders(records)
        readme = Path(save_directory) / "README.md"
        self._readme = readme.read_text(encoding="utf-8") if readme.is_file() else None
        with self._contents(records):
            super().save_pretrained(save_directory, *args, save_original_format=save_original_format, **kwargs)
        if (args[0] if args else kwargs.get("is_main_process", True)) and not _is_trainers(save_directory):
            for write in AFTER_SAVING:
                write(save_directory)

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load as any module does; while Trainer's checkpoints are without encoders, these are not called missing."""
        result = super().load_state_dict(state_dict, strict, assign)
        if self.adapter_checkpoints:
            left_out = self._keys_left_out({side: {} for side in SIDES})
            result.missing_keys[:] = [key for key in result.missing_keys if key not in left_out]
        return result

    def push_to_hub(self, *args, save_encoders: bool = True, **kwargs):
        """Upload, with the encoders or without; see [`PreTrainedModel.push_to_hub`] and `save_pretrained`."""
        save = self.save_pretrained
        # transformers' own saves into a folder of its own and hands no option on
        self.save_pretrained = functools.partial(save, save_encoders=save_encoders, keep_folders=False)
        try:
            return super().push_to_hub(*args, **kwargs)
        finally:
            del self.save_pretrained

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        for write in BEFORE_UPLOADING:
            write(working_dir, repo_id, self._readme)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def unmerge(self, directory: str | os.PathLike, processor: Any = None) -> dict[str, Path]:
        """Write both encoders as ordinary checkpoints, `directory/context` and `directory/query`, for `AutoModel`.

        The weights are those in the model, to the bit; frozen ones are the originals'. An encoder that is a part of
        something (T5's, SigLIP's of texts) is saved under its name there; AutoModel then draws the rest anew, and says
        so.

        Args:
            directory: Folder.
            processor: The merge's: image processor (or feature extractor) and tokenizer are saved too.

        Returns:
            The folder of each side.

        Raises:
            ValueError: If an encoder holds what PEFT put in, or the processor is another model's.
        """
        return write_encoders(self, directory, processor)

    def swap_encoder(
        self, side: str, encoder: str | os.PathLike | PreTrainedModel, *, force: bool = False, **options
    ) -> None:
        """Put an encoder into the place of one: the same from elsewhere, or (with `force`) another one.

        Args:
            side: `"context"` or `"query"`.
            encoder: Name, folder or instance.
            force: Take an encoder that the adapters were not learnt for; they have to be trained with it.
            **options: Of its `from_pretrained`.

        Raises:
            OSError: If it is not found.
            ValueError: If its features are of another width than the adapter takes, or its weights are others.
        """
        put_encoder(self, side, encoder, force, options)

    def export_sentence_transformers(self, directory: str | os.PathLike, processor: Any, sides=SIDES) -> Path:
        """Write a folder for `SentenceTransformer(folder)`; see [`export.export_sentence_transformers`]."""
        if "sentence-transformers" not in EXPORTERS:
            raise ImportError("this export needs the package itself: `pip install otmerge-hf`, `import otmerge_hf`")
        return EXPORTERS["sentence-transformers"](self, directory, processor, sides)

    def _is_thin(self, folder: str | os.PathLike) -> bool:
        """Whether a folder is a checkpoint of the training that asked for thin ones."""
        if self.adapter_checkpoints is None or not _is_trainers(folder):
            return False
        return os.path.abspath(folder).startswith(os.path.join(os.path.abspath(self.adapter_checkpoints), ""))

    def _records_instead_of_encoders(self, folder: str, save_encoders: bool | None) -> dict | None:
        """Records to save in place of the encoders; None where the encoders are saved."""
        if save_encoders or (save_encoders is None and not self._is_thin(folder)):
            return None
        learning = [side for side, encoder in self.named_encoders().items() if _learns(encoder)]
        if save_encoders is None and learning:
            logger.warning_once(f"The {learning[0]} encoder learns: checkpoints hold the encoders' weights too.")
            return None
        records = describe_encoders(self)
        for side, record in records.items() if save_encoders is False else ():
            without = f"`save_encoders=False` leaves out the {side} encoder, but"
            if side in learning:
                raise ValueError(f"{without} it learns: save the merge whole, or what PEFT put in by PEFT.")
            loaded = (self.config.encoder_sources or {}).get(side, {}).get("digest", record["digest"])
            if loaded != record["digest"]:
                changed = f"its weights are not those that were loaded (digest {record['digest']}, loaded {loaded})"
                raise ValueError(f"{without} {changed}: save the merge whole.")
        return records

    @contextmanager
    def _contents(self, records: dict | None) -> Iterator[None]:
        """Let what is saved meanwhile be whole (None), or without the encoders that `records` tell of."""
        config, ignored = self.config, self._keys_to_ignore_on_save
        before = config.encoder_sources, config.has_encoder_weights
        try:
            config.has_encoder_weights = records is None
            if records is not None:
                config.encoder_sources = records
                self._keys_to_ignore_on_save = ignored | self._keys_left_out(records)
            yield
        finally:
            config.encoder_sources, config.has_encoder_weights = before
            self._keys_to_ignore_on_save = ignored

    def _keys_left_out(self, records: dict[str, dict]) -> set[str]:
        """Names of the encoders' tensors that a checkpoint with these records leaves out."""
        keys, encoders = set(), {id(encoder): side for side, encoder in self.named_encoders().items()}
        for name, part in self.named_modules():
            if (side := encoders.get(id(part))) is not None:
                lacking = records[side].get("missing", ())
                keys |= {f"{name}.{key}" for key in part.state_dict() if key not in lacking}
        return keys


def _is_trainers(folder: str | os.PathLike) -> bool:
    """Whether Trainer names its checkpoints so."""
    return re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", os.path.basename(os.path.abspath(folder))) is not None


def _learns(encoder: PreTrainedModel) -> bool:
    return any(parameter.requires_grad for parameter in encoder.parameters())
