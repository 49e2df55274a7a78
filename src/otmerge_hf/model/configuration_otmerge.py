"""Configuration of a merge: two encoder configurations in, every size and choice of the merged model out."""

import dataclasses
import re
import shutil
from pathlib import Path

from huggingface_hub.dataclasses import strict
from huggingface_hub.file_download import REGEX_COMMIT_HASH
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import cached_file

from .sources import without_folders


ADAPTER_TYPES = ("linear", "mlp", "orthogonal", "monge", "coupling")
FUSER_TYPES = ("cross_attention", "bidirectional", "self_cross_block", "concat", "average", "transport")
TOKEN_SELECTIONS = ("last_hidden_state", "cls", "pooled")
PROBLEM_TYPES = (None, "single_label_classification", "multi_label_classification")
POSITION_TYPES = ("auto", "grid", "sequence", "none")
LINEAR_PATHS = ("query", "context", "cosine", "late_interaction", "transport", "answers")

# Written into every saved folder, so that it loads with `trust_remote_code=True` where this package is missing.
AUTO_MAP = {
    "AutoConfig": "configuration_otmerge.OTMergeConfig",
    "AutoModel": "modeling_otmerge.OTMergeModel",
    "AutoModelForZeroShotImageClassification": "modeling_otmerge.OTMergeModel",
    "AutoModelForVisualQuestionAnswering": "modeling_otmerge.OTMergeForQuestionAnswering",
}
_PIPELINES = {
    "otmerge-vqa": "OTMergeVQAPipeline",
    "visual-question-answering": "OTMergeVQAPipeline",
    "otmerge-classification": "OTMergeClassificationPipeline",
}
CUSTOM_PIPELINES = {
    task: {"impl": f"pipeline_otmerge.{name}", "pt": ["AutoModelForVisualQuestionAnswering"]}
    for task, name in _PIPELINES.items()
}
CODE_FILES = (
    "adapters.py",
    "attention.py",
    "checkpoint.py",
    "configuration_otmerge.py",
    "encoders.py",
    "fetching.py",
    "fusers.py",
    "image_rows.py",
    "images.py",
    "linear_path.py",
    "modality.py",
    "modeling_otmerge.py",
    "outputs_otmerge.py",
    "padding.py",
    "pipeline_otmerge.py",
    "plans.py",
    "probing.py",
    "processing_otmerge.py",
    "scaling.py",
    "sounds.py",
    "sources.py",
    "texts.py",
    "unmerge.py",
    "validation.py",
)


def hidden_layers(tokens: str | int) -> list[int]:
    """Numbers of the hidden layers that a choice of tokens names: one of `3`, three of `"0+3+6"`, none of a name."""
    parts = str(tokens).split("+")
    return [int(part) for part in parts] if all(re.fullmatch(r"-?[0-9]+", part) for part in parts) else []


@strict
class OTMergeConfig(PreTrainedConfig):
    r"""Configuration of an [`OTMergeModel`] or [`OTMergeForQuestionAnswering`].

    Args:
        context_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of the encoder that is looked at (image, audio, passage); any type that `AutoConfig` knows.
        query_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of the encoder that asks (question, caption); a text encoder.
        shared_dim (`int`, defaults to 256): Width D of the shared space.
        adapter_type (`str`, defaults to `"mlp"`): `linear`, `mlp`, `orthogonal`, `monge` or `coupling`.
        adapter_hidden_size (`int`, *optional*): Hidden width of `mlp` adapters, decoders and `coupling` networks;
            `2 * shared_dim` when `None`.
        reconstruction (`bool`, defaults to `False`): Give each adapter a decoder back to its encoder's space.
        standardize (`bool`, defaults to `True`): Subtract the mean and divide by the standard deviation of every
            feature dimension (buffers, fitted once by [`OTMergeModel.fit_standardization`]).
        context_tokens, query_tokens (`str` or `int`): What is taken from the encoder: `"last_hidden_state"`, `"cls"`
            (the class token; an encoder without one is refused when merging), `"pooled"` (`pooler_output`), the
            index of a hidden layer, or several joined, `"0+3+6"`: each token is then their features one after another.
        context_feature_dim, query_feature_dim (`int`, *optional*): Width of what is taken; read off the encoder's
            configuration when `None` (a hidden layer of a convolutional encoder has to state it).
        context_positions (`str`, defaults to `"auto"`): Sine-cosine positions added to the context tokens before the
            fuser: `grid` (two-dimensional), `sequence`, `none`, or `auto`: a grid for images, a sequence for the rest,
            none for the fuser `transport`.
        context_grid (`list[int]`, *optional*): Height and width in tokens when the image is not square.
        fuser_type (`str`, defaults to `"cross_attention"`): `cross_attention`, `bidirectional`, `self_cross_block`,
            `concat`, `average` or `transport`.
        fuser_num_layers, fuser_num_heads (`int`): Depth and attention heads of the fuser.
        fuser_dropout (`float`, defaults to 0.1): Dropout inside fuser and answer head, in [0, 1).
        linear_path (`list[str]`, defaults to `["query", "cosine", "answers", "context"]`): Parts that go to the
            answers by a linear map of their own, beside the fuser: see [`LinearPath`]. Empty: the fuser alone.
            Configurations that were saved before there was a linear path have none.
        answer_targets (`str`, *optional*): What a row's answers were in training: `single` (one), `votes` (several
            people's) or `labels` (any number are true); set by `data.Answers.config`, nothing else depends on it here.
        normalize_answers (`bool`, *optional*): Whether spellings were made one ("Yes " and "yes").
        freeze_encoders (`bool`, defaults to `True`): Keep both encoders in `eval()`, without gradient, under no_grad.
        logit_scale_init_value (`float`): Initial log inverse temperature of `logits_per_image`, as in CLIP.
        initializer_range (`float`): Standard deviation of the initial weights of linear maps, where it is above
            `in_features ** -0.5`; narrow maps start wider, so that they keep the variance of their input.
        encoder_sources (`dict`, *optional*): Where each side's encoder came from, and the digest of its weights as
            they were loaded; written by `from_encoders_pretrained`.
        has_encoder_weights (`bool`, defaults to `True`): `False` in a checkpoint that was saved without its encoders.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(), BertConfig(), shared_dim=128, num_labels=13)
        >>> config.feature_dim("context"), config.shared_dim, config.num_labels
        (768, 128, 13)
    """

    model_type = "otmerge"
    sub_configs_defaults = {
        "context_config": SubConfigSpec(config_class=AutoConfig, model_type="vit"),
        "query_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
    }
    # Everything but the logits: Trainer would otherwise gather all of it in memory at evaluation.
    keys_to_ignore_at_inference = [
        *("logits_per_image", "logits_per_text", "logit_scale"),
        *("pair_mask", "group_ids", "hidden_states", "attentions"),
        *(f"context_{name}" for name in ("embeds", "shared", "tokens", "mask", "reconstruction")),
        *(f"query_{name}" for name in ("embeds", "shared", "tokens", "mask", "reconstruction")),
    ]

    context_config: PreTrainedConfig | dict | None = None
    query_config: PreTrainedConfig | dict | None = None
    shared_dim: int = 256
    adapter_type: str = "mlp"
    adapter_hidden_size: int | None = None
    reconstruction: bool = False
    standardize: bool = True
    context_tokens: str | int = "last_hidden_state"
    query_tokens: str | int = "last_hidden_state"
    context_feature_dim: int | None = None
    query_feature_dim: int | None = None
    context_positions: str = "auto"
    context_grid: list | tuple | None = None
    fuser_type: str = "cross_attention"
    fuser_num_layers: int = 1
    fuser_num_heads: int = 4
    fuser_dropout: float | int = 0.1
    linear_path: list | tuple = ("query", "cosine", "answers", "context")
    answer_targets: str | None = None
    normalize_answers: bool | None = None
    freeze_encoders: bool = True
    logit_scale_init_value: float | int = 2.6592
    initializer_range: float | int = 0.02
    encoder_sources: dict | None = None
    has_encoder_weights: bool = True

    def __post_init__(self, **kwargs):
        # A remote copy of this class (module `transformers_modules...`) needs `custom_pipelines`; the installed one
        # has registered its pipelines, and keeping the entry would make `pipeline()` insist on remote code.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
        super().__post_init__(**kwargs)
        self.validate_choices()  # here too: later it would be wrapped into several lines that are no ValueError

    @classmethod
    def from_encoder_configs(cls, context_config: PreTrainedConfig, query_config: PreTrainedConfig, **kwargs):
        """Build a configuration from two encoders' configurations (copied, not shared).

        Raises:
            ValueError: On a keyword that is no field: transformers would keep it and go on with the default.
        """
        fields = {field.name for field in dataclasses.fields(cls)} | {"num_labels", "attn_implementation"}
        if unknown := sorted(set(kwargs) - fields):
            raise ValueError(f"`{unknown[0]}` is no field of OTMergeConfig; see its documentation for those it has.")
        return cls(context_config=context_config.to_dict(), query_config=query_config.to_dict(), **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """Read a saved configuration; one without the field `linear_path` is older than it, and has none."""
        return super().from_dict({"linear_path": [], **config_dict}, **kwargs)

    def to_dict(self) -> dict:
        """Return every field; without paths of the machine that merged, unless they say where weights are."""
        fields = super().to_dict()
        if fields.get("encoder_sources") and self.has_encoder_weights:
            fields["encoder_sources"] = without_folders(fields["encoder_sources"])
        for side in ("context", "query"):
            encoder = fields.get(f"{side}_config") or {}
            if "_name_or_path" in encoder:
                encoder["_name_or_path"] = ""
            for part in (encoder, *(value for value in encoder.values() if isinstance(value, dict))):
                if len(part.get("id2label") or ()) > 2:  # a thousand names of a head that no encoder has; 2 by default
                    del part["id2label"], part["label2id"]
        return fields

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """Save, with the code that loads a merge where this package is missing and the references to it."""
        had = getattr(self, "custom_pipelines", None)
        self.auto_map = dict(AUTO_MAP)
        self.custom_pipelines = {task: dict(entry) for task, entry in CUSTOM_PIPELINES.items()}
        try:
            super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        finally:
            if had is None:
                del self.custom_pipelines  # else `pipeline()` would ask for remote code that the package has
        for name in CODE_FILES:
            source, target = self._code_file(name), Path(save_directory) / name
            if source is not None and source.resolve() != target.resolve():
                shutil.copyfile(source, target)

    def _code_file(self, name: str) -> Path | None:
        """Find a code file beside this one; or, as remote code is cached in parts, where the merge came from."""
        beside = Path(__file__).with_name(name)
        if beside.exists() or not self._name_or_path:
            return beside if beside.exists() else None
        commit = Path(__file__).parent.name  # so transformers names the folder of what came from the Hub
        found = cached_file(
            self._name_or_path,
            name,
            revision=commit if REGEX_COMMIT_HASH.match(commit) else None,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if found is None else Path(found)

    @property
    def text_config(self) -> PreTrainedConfig:
        """The query encoder's configuration, under the name that transformers looks for."""
        return self.query_config

    def feature_dim(self, side: str) -> int:
        """Width of the features that the adapter of `side` (`"context"` or `"query"`) receives."""
        stated = getattr(self, f"{side}_feature_dim")
        if stated is not None:
            return stated
        sub_config, tokens = getattr(self, f"{side}_config"), getattr(self, f"{side}_tokens")
        # CLIP-like two-tower configurations: the tower of this side is used.
        for name in ("vision_config", "audio_config") if side == "context" else ("text_config",):
            tower = getattr(sub_config, name, None)
            sub_config = tower if isinstance(tower, PreTrainedConfig) else sub_config
        convolutional = hasattr(sub_config, "hidden_sizes") or not hasattr(sub_config, "hidden_size")
        layers = hidden_layers(tokens)
        if layers and convolutional:
            raise ValueError(
                f"`{side}_tokens={tokens}` picks a hidden layer of a `{sub_config.model_type}` encoder, whose layers "
                f"differ in width; state it as `{side}_feature_dim` (`from_encoders_pretrained` measures it)."
            )
        for name in ("hidden_size", "hidden_sizes", "hidden_dim", "d_model", "embed_dim"):
            width = getattr(sub_config, name, None)
            if width:
                return (width[-1] if isinstance(width, (list, tuple)) else width) * max(len(layers), 1)
        raise ValueError(
            f"The width of a `{sub_config.model_type}` encoder is not in its configuration; pass `{side}_feature_dim`."
        )

    def validate_choices(self):
        """Check every choice and size; runs at construction and before saving."""
        choices = {"adapter_type": ADAPTER_TYPES, "fuser_type": FUSER_TYPES, "context_positions": POSITION_TYPES}
        for name, allowed in (choices | {"problem_type": PROBLEM_TYPES}).items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"`{name}` is {value!r}; expected one of {', '.join(map(str, allowed))}.")
        if self.answer_targets not in (None, "single", "votes", "labels"):
            raise ValueError(f"`answer_targets` is {self.answer_targets!r}; expected single, votes or labels.")
        for name in self.linear_path:
            if name not in LINEAR_PATHS:
                raise ValueError(f"`linear_path` holds {name!r}; expected some of {', '.join(LINEAR_PATHS)}.")
        for name in ("context_tokens", "query_tokens"):
            value = getattr(self, name)
            layers = hidden_layers(value)
            if isinstance(value, bool) or not (value in TOKEN_SELECTIONS or layers) or len({*layers}) < len(layers):
                expected = f"one of {', '.join(TOKEN_SELECTIONS)}, a layer's index, or different ones joined, 0+3+6"
                raise ValueError(f"`{name}` is {value!r}; expected {expected}.")
        optional = ("adapter_hidden_size", "context_feature_dim", "query_feature_dim")
        for name in ("shared_dim", "fuser_num_layers", "fuser_num_heads", *optional):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"`{name}` is {value}; expected a positive integer.")
        if not self.id2label:
            raise ValueError("`num_labels` is 0; expected at least one answer.")
        if sorted(self.id2label) != list(range(len(self.id2label))):
            expected = f"0 to {len(self.id2label) - 1}, one for each answer"
            raise ValueError(f"`id2label` has the keys {sorted(self.id2label)[:8]}; expected {expected}.")
        if not 0 <= self.fuser_dropout < 1:
            raise ValueError(f"`fuser_dropout` is {self.fuser_dropout}; expected a number in [0, 1).")
        if self.context_grid is not None and (len(self.context_grid) != 2 or min(self.context_grid) < 1):
            raise ValueError(f"`context_grid` is {self.context_grid}; expected [height, width] in tokens.")

    def check_fuser_width(self) -> None:
        """Refuse, with a ValueError, a shared space that heads or positions do not divide; only a fuser has these."""
        if self.shared_dim % self.fuser_num_heads:
            raise ValueError(
                f"`shared_dim` ({self.shared_dim}) is not a multiple of `fuser_num_heads` ({self.fuser_num_heads})."
            )
        if self.context_positions != "none" and self.shared_dim % 4:
            raise ValueError(
                f"`shared_dim` ({self.shared_dim}) must be a multiple of 4 for sine-cosine positions; "
                'or set `context_positions="none"`.'
            )


__all__ = ["OTMergeConfig"]
