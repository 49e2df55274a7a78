"""What every loss term is: a name, what it looks at, and a function of the model's outputs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch


@dataclass
class LossTerm:
    """A named scalar added to the task loss.

    Subclasses are data classes: their fields are numbers, strings and booleans, so that a Trainer checkpoint can hold
    them. What a term learns or is given besides (prototypes, a teacher) are buffers, plain tensors. A term never
    holds the model.

    Attributes:
        name: Key in the logs.
        batch_level: True if the rows of a batch are compared with each other (a transport plan, a variance), False if
            the value is a mean over rows. A batch-level loss of a batch is not the mean of its halves' losses, so it
            is given the rows of all micro-batches and processes at once.
        needs_tokens: True if a batch-level loss looks at the tokens too; it is then given their means.
        needs_reconstruction: True if the term reads what the decoders make; the answering model runs them for it.
    """

    name: ClassVar[str]
    batch_level: ClassVar[bool] = True
    needs_tokens: ClassVar[bool] = False
    needs_reconstruction: ClassVar[bool] = False

    @property
    def uses_temperature(self) -> bool:
        """Whether the model's temperature (`logit_scale`) gets a gradient from this term."""
        return False

    def __call__(self, outputs: Any) -> torch.Tensor:
        """Value, a float32 scalar with gradient.

        Args:
            outputs: An [`OTMergeOutput`]. A batch-level loss is given the embeddings (B, D), `pair_mask`, `group_ids`
                (B,) and `logit_scale`; and, if it says `needs_tokens`, the tokens' masked means (B, 1, D_side).
        """
        raise NotImplementedError

    def check(self, model: Any) -> None:
        """Raise ValueError if `model` cannot provide what this term needs; called before training starts."""

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return what the term has learned so far, for a checkpoint."""
        return {}

    def load_buffers(self, buffers: dict[str, torch.Tensor]) -> None:
        """Take back what [`LossTerm.buffers`] gave; an empty dict starts anew."""
