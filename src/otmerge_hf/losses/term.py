"""What every loss term is: a name, a scope, and a function of the model's outputs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch


@dataclass
class LossTerm:
    """A named scalar added to the task loss.

    Subclasses are data classes: their fields are numbers, strings and booleans, so that a Trainer checkpoint can hold
    them. They never hold the model.

    Attributes:
        name: Key in the logs.
        of_sets: True if the value depends on the batch as a set (a transport plan, a variance), False if it is a mean
            of one value per row. Only a term of rows is the same for one batch and for the mean of its halves.
    """

    name: ClassVar[str]
    of_sets: ClassVar[bool]

    def __call__(self, outputs: Any) -> torch.Tensor:
        """Value, a float32 scalar with gradient.

        Args:
            outputs: An [`OTMergeOutput`]; a term of sets may use `context_embeds` and `query_embeds` (B, D) alone.
        """
        raise NotImplementedError

    def check(self, model: Any) -> None:
        """Raise ValueError if `model` cannot provide what this term needs; called before training starts."""
