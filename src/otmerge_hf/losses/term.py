"""What every loss term is: a name, a scope, and a function of the model's outputs."""

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
        of_sets: True if the value depends on the batch as a set (a transport plan, a variance), False if it is a mean
            of one value per row. Only a term of rows is the same for one batch and for the mean of its halves.
        needs_tokens: True if a term of sets looks at the tokens too; then their means travel with the embeddings.
        needs_reconstruction: True if the term reads what the decoders make; the answering model runs them for it.
    """

    name: ClassVar[str]
    of_sets: ClassVar[bool]
    needs_tokens: ClassVar[bool] = False
    needs_reconstruction: ClassVar[bool] = False

    def __call__(self, outputs: Any) -> torch.Tensor:
        """Value, a float32 scalar with gradient.

        Args:
            outputs: An [`OTMergeOutput`]. A term of sets may use the embeddings (B, D), `pair_mask`, `group_ids`
                (B,) and `logit_scale`, and of the tokens their masked mean alone: the union of several batches
                keeps nothing else.
        """
        raise NotImplementedError

    def check(self, model: Any) -> None:
        """Raise ValueError if `model` cannot provide what this term needs; called before training starts."""

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return what the term has learned so far, for a checkpoint."""
        return {}

    def load_buffers(self, buffers: dict[str, torch.Tensor]) -> None:
        """Take back what [`LossTerm.buffers`] gave; an empty dict starts anew."""
