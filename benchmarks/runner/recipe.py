"""What a method may be told: every choice of a run, each an axis that an ablation can vary."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from ..model.configuration_otmerge import ADAPTER_TYPES, FUSER_TYPES


@dataclass(frozen=True)
class Recipe:
    """Choices of one run of one method; the defaults are those of the suite.

    Attributes:
        seed: Of initial weights, order of the rows, and of what is labelled.
        label_fraction: Share of training images whose questions carry their answers, in (0, 1].
        statement_fraction: Share of the images without a labelled question whose statements are paired with them.
        unpaired_fraction: Share of those images that is offered without statements, for the transport term.
        negative_statements: Whether sentences that say what an image does not show count as statements.
        max_images: Use only so many training images; None for all.
        max_test_questions: Use only so many test questions; None for all.
        context_encoder: `efficientnet-lite0`, `-lite1`, `-lite2`, or a folder.
        query_encoder: `minilm-l6`, `minilm-l3`, or a folder.
        image_size: Side in pixels; for `joint` too.
        context_tokens: Hidden layer or token selection of the context encoder.
        query_tokens: The same of the query encoder.
        adapter_type: As in `OTMergeConfig`.
        fuser_type: As in `OTMergeConfig`.
        shared_dim: As in `OTMergeConfig`.
        fuser_num_layers: As in `OTMergeConfig`.
        fuser_dropout: As in `OTMergeConfig`.
        paired_weight: Weight of the paired term while aligning.
        sinkhorn_weight: Weight of the Sinkhorn divergence while aligning.
        variance_weight: Weight of the floor under the spread while aligning.
        reconstruction_weight: Weight of the decoders' error while aligning; 0 builds none.
        epsilon: Of the Sinkhorn divergence, as a fraction of the mean cost.
        align_epochs: Passes over the image-statement pairs.
        align_min_steps: Fewest steps of aligning.
        epochs: Passes over the labelled questions.
        min_steps: Fewest steps on them, so that few labels are not passed over a handful of times.
        max_steps: Most steps of any stage; None for no limit.
        batch_size: Rows per step.
        learning_rate: Of adapters, fuser and head.
        encoder_learning_rate: Of encoders that train (`joint`) and of what is put into them (`lora`).
        weight_decay: Of AdamW.
        fuse_stage: What learns from labels: `both` (adapters too) or `fuse`.
        lora_rank: r of the low-rank updates.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> Recipe(label_fraction=0.01).steps(386, epochs=2)
        300
    """

    seed: int = 0
    label_fraction: float = 1.0
    statement_fraction: float = 1.0
    unpaired_fraction: float = 0.0
    negative_statements: bool = True
    max_images: int | None = None
    max_test_questions: int | None = None
    context_encoder: str = "efficientnet-lite0"
    query_encoder: str = "minilm-l6"
    image_size: int = 64
    context_tokens: int | str = 11
    query_tokens: int | str = "last_hidden_state"
    adapter_type: str = "mlp"
    fuser_type: str = "cross_attention"
    shared_dim: int = 128
    fuser_num_layers: int = 1
    fuser_dropout: float = 0.1
    paired_weight: float = 0.1
    sinkhorn_weight: float = 0.1
    variance_weight: float = 1.0
    reconstruction_weight: float = 0.0
    epsilon: float = 0.05
    align_epochs: float = 1.0
    align_min_steps: int = 100
    epochs: float = 2.0
    min_steps: int = 300
    max_steps: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 3e-4
    weight_decay: float = 0.01
    fuse_stage: str = "both"
    lora_rank: int = 8

    def __post_init__(self) -> None:
        for name in ("label_fraction", "statement_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected a number in (0, 1].")
        if not 0 <= self.unpaired_fraction <= 1:
            raise ValueError(f"`unpaired_fraction` is {self.unpaired_fraction}; expected a number in [0, 1].")
        for name in ("epochs", "align_epochs", "batch_size", "learning_rate", "encoder_learning_rate", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` is {getattr(self, name)}; expected a positive number.")
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

    def but(self, **changes: Any) -> Self:
        """Copy with some choices changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return every choice."""
        return asdict(self)

    @classmethod
    def parse(cls, name: str, text: str) -> Any:
        """Value of the choice `name` from text, of that choice's kind.

        Raises:
            ValueError: If there is no such choice, or the text is not of its kind.

        Example:
            >>> Recipe.parse("shared_dim", "64"), Recipe.parse("context_tokens", "pooled"), Recipe.parse("epochs", "3")
            (64, 'pooled', 3.0)
        """
        kinds = {field.name: field.type for field in fields(cls)}
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
