"""What a method may be told: every choice of a run, each an axis that an ablation can vary."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self


def _choice(default: Any, about: str) -> Any:
    return field(default=default, metadata={"help": about})


@dataclass(frozen=True)
class Recipe:
    """Choices of one run of one method; the defaults are those of the suite.

    What each means stands beside it, and in `python -m benchmarks list`. The names are settings of every finished
    cell: they stay.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> Recipe(label_fraction=0.01).steps(386, epochs=2)
        300
    """

    seed: int = _choice(0, "of initial weights, order of the rows, and what is labelled")
    label_fraction: float = _choice(1.0, "share of training images whose questions carry their answers, in (0, 1]")
    statement_fraction: float = _choice(
        1.0, "share of the images without a labelled question whose statements are paired with them"
    )
    unpaired_fraction: float = _choice(
        0.0, "share of those images that is offered without statements, for the transport term"
    )
    negative_statements: bool = _choice(True, "whether sentences that say what an image does not show are statements")
    max_images: int | None = _choice(None, "use only so many training images")
    max_test_questions: int | None = _choice(None, "use only so many test questions")
    context_encoder: str = _choice(
        "efficientnet-lite0", "efficientnet-lite0, -lite1, -lite2, vit-small-14, or a folder"
    )
    query_encoder: str = _choice("minilm-l6", "minilm-l6, minilm-l3, or a folder")
    image_size: int = _choice(64, "side in pixels; for joint training too")
    context_tokens: int | str = _choice(11, "hidden layer or token selection of the context encoder")
    query_tokens: int | str = _choice("last_hidden_state", "the same of the query encoder")
    adapter_type: str = _choice("mlp", "as in OTMergeConfig")
    fuser_type: str = _choice("cross_attention", "as in OTMergeConfig")
    shared_dim: int = _choice(128, "as in OTMergeConfig")
    fuser_num_layers: int = _choice(1, "as in OTMergeConfig")
    fuser_dropout: float = _choice(0.1, "as in OTMergeConfig")
    paired_weight: float = _choice(0.1, "weight of the paired term while aligning")
    sinkhorn_weight: float = _choice(0.1, "weight of the Sinkhorn divergence while aligning")
    variance_weight: float = _choice(1.0, "weight of the floor under the spread while aligning")
    reconstruction_weight: float = _choice(0.0, "weight of the decoders' error while aligning; 0 builds none")
    epsilon: float = _choice(0.05, "of the Sinkhorn divergence, as a fraction of the mean cost")
    align_epochs: float = _choice(1.0, "passes over the image-statement pairs")
    align_min_steps: int = _choice(100, "fewest steps of aligning")
    epochs: float = _choice(2.0, "passes over the labelled questions")
    min_steps: int = _choice(300, "fewest steps on them, so that few labels are passed over more than a few times")
    max_steps: int | None = _choice(None, "most steps of any stage")
    batch_size: int = _choice(128, "rows per step")
    learning_rate: float = _choice(1e-3, "of adapters, fuser and head")
    encoder_learning_rate: float = _choice(3e-4, "of encoders that train (joint) and of what is put into them (lora)")
    weight_decay: float = _choice(0.01, "of AdamW")
    fuse_stage: str = _choice("both", "what learns from labels: both (adapters too) or fuse")
    lora_rank: int = _choice(8, "r of the low-rank updates")
    questions_per_context: int = _choice(1, "about one image in a batch: encoded, or adapted, once for them")

    def __post_init__(self) -> None:
        for name in ("label_fraction", "statement_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected a number in (0, 1].")
        if not 0 <= self.unpaired_fraction <= 1:
            raise ValueError(f"`unpaired_fraction` is {self.unpaired_fraction}; expected a number in [0, 1].")
        for name in ("epochs", "align_epochs", "batch_size", "learning_rate", "encoder_learning_rate", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected a positive number.")
        # here: who only reads the choices does not wait for torch and transformers
        from otmerge_hf.model.configuration_otmerge import ADAPTER_TYPES, FUSER_TYPES

        kinds = {"adapter_type": ADAPTER_TYPES, "fuser_type": FUSER_TYPES, "fuse_stage": ("both", "fuse")}
        for name, known in kinds.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; expected one of {', '.join(known)}.")

    def steps(self, rows: int, epochs: float, least: int | None = None) -> int:
        """Optimiser steps for `epochs` passes over `rows`, within the recipe's limits.

        Args:
            rows: Rows of the data.
            epochs: Passes.
            least: Fewest steps; `min_steps` if None.
        """
        wanted = max(round(epochs * rows / self.batch_size), self.min_steps if least is None else least, 1)
        return wanted if self.max_steps is None else min(wanted, self.max_steps)

    def replace(self, **changes: Any) -> Self:
        """Copy with some choices changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return every choice; one that older cells do not know only where it was made."""
        choices = asdict(self)
        if self.questions_per_context == 1:
            del choices["questions_per_context"]
        return choices

    @classmethod
    def describe(cls) -> list[tuple[str, Any, str]]:
        """Name, default and meaning of every choice.

        Example:
            >>> Recipe.describe()[-1]
            ('questions_per_context', 1, 'about one image in a batch: encoded, or adapted, once for them')
        """
        return [(choice.name, choice.default, choice.metadata["help"]) for choice in fields(cls)]

    @classmethod
    def parse(cls, name: str, text: str) -> Any:
        """Value of the choice `name` from text, of that choice's kind.

        Raises:
            ValueError: If there is no such choice, or the text is not of its kind.

        Example:
            >>> Recipe.parse("shared_dim", "64"), Recipe.parse("context_tokens", "pooled"), Recipe.parse("epochs", "3")
            (64, 'pooled', 3.0)
        """
        kinds = {choice.name: choice.type for choice in fields(cls)}
        if name not in kinds:
            raise ValueError(f"`{name}` is no choice of a recipe; expected one of {', '.join(kinds)}.")
        kind = kinds[name]
        if text.lower() == "none" and "None" in str(kind):
            return None
        if kind is bool:
            if text.lower() not in ("true", "false"):
                raise ValueError(f"`{name}` is {text!r}; expected true or false.")
            return text.lower() == "true"
        if kind is str:
            return text
        if "str" in str(kind):
            return int(text) if text.lstrip("-").isdigit() else text
        try:
            return float(text) if kind is float else int(text)
        except ValueError:
            raise ValueError(f"`{name}` is {text!r}; expected a number.") from None
