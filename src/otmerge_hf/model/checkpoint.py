"""What a checkpoint holds: the whole merge, or what was learnt and where the encoders come from."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .modality import SIDES
from .sources import weights_digest, without_folders


logger = logging.get_logger(__name__)


class CheckpointMixin:
    """Saving with or without the encoders; a base of [`OTMergePreTrainedModel`]."""

    # Whether folders `checkpoint-<step>`, which Trainer writes, hold no frozen encoders: `training.AdapterCheckpoints`
    # sets it for the time of a training.
    adapter_checkpoints = False
    _keys_to_ignore_on_save: set[str]

    def named_encoders(self) -> dict[str, PreTrainedModel]:
        """Both encoders, by side; those that there are."""
        base = getattr(self, self.base_model_prefix, self)
        found = {side: getattr(base, f"{side}_encoder", None) for side in SIDES}
        return {side: encoder for side, encoder in found.items() if encoder is not None}

    def save_pretrained(
        self, save_directory, *args, save_encoders: bool | None = None, save_original_format: bool = False, **kwargs
    ):
        """Save weights (safetensors), configuration, and the code that loads them where this package is missing.

        Args:
            save_directory: Folder.
            *args: As of [`PreTrainedModel.save_pretrained`].
            save_encoders: Whether the encoders' weights go into the folder, which then needs nothing else. Without
                them it says where they come from, and `from_pretrained` fetches and checks them. None: with them,
                except in the checkpoints of a Trainer that has [`training.AdapterCheckpoints`].
            save_original_format: Off by default: Trainer's raw `load_state_dict` does not undo the key renaming that
                transformers applies to some encoders, and would silently leave them unloaded.
            **kwargs: As of [`PreTrainedModel.save_pretrained`].

        Raises:
            ValueError: If an encoder shall be left out that learns, or is not as it was loaded.
        """
        records = self._records_instead_of_encoders(save_directory, save_encoders)
        if records is not None and kwargs.get("push_to_hub"):
            records = without_folders(records)
        with self._contents(records):
            super().save_pretrained(save_directory, *args, save_original_format=save_original_format, **kwargs)

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load as any module does; while Trainer's checkpoints are without encoders, these are not called missing."""
        result = super().load_state_dict(state_dict, strict, assign)
        if self.adapter_checkpoints:
            left_out = self._encoder_keys()
            result.missing_keys[:] = [key for key in result.missing_keys if key not in left_out]
        return result

    def describe_encoders(self) -> dict[str, dict[str, Any]]:
        """Record of each encoder as it is now; without a name where its weights are not those that were loaded."""
        records = {}
        for side, encoder in self.named_encoders().items():
            known, digest = (self.config.encoder_sources or {}).get(side, {}), weights_digest(encoder)
            if known.get("digest") == digest:
                records[side] = known
                continue
            dtype = str(encoder.dtype).removeprefix("torch.")
            records[side] = {"name_or_path": "", "revision": None, "class_name": type(encoder).__name__}
            records[side] |= {"dtype": dtype, "digest": digest}
        return records

    def _records_instead_of_encoders(self, folder: str, save_encoders: bool | None) -> dict | None:
        """Records to save in place of the encoders; None where the encoders are saved."""
        if save_encoders or (save_encoders is None and not (self.adapter_checkpoints and _is_trainers(folder))):
            return None
        learning = [side for side, encoder in self.named_encoders().items() if _learns(encoder)]
        if save_encoders is None and learning:
            logger.warning_once(f"The {learning[0]} encoder learns: checkpoints hold the encoders' weights too.")
            return None
        records = self.describe_encoders()
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
                self._keys_to_ignore_on_save = ignored | self._encoder_keys()
            yield
        finally:
            config.encoder_sources, config.has_encoder_weights = before
            self._keys_to_ignore_on_save = ignored

    def _encoder_keys(self) -> set[str]:
        encoders = {id(encoder) for encoder in self.named_encoders().values()}
        return {
            f"{name}.{key}" for name, part in self.named_modules() if id(part) in encoders for key in part.state_dict()
        }


def _is_trainers(folder: str | os.PathLike) -> bool:
    """Whether Trainer names its checkpoints so."""
    return re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", os.path.basename(os.path.abspath(folder))) is not None


def _learns(encoder: PreTrainedModel) -> bool:
    return any(parameter.requires_grad for parameter in encoder.parameters())
