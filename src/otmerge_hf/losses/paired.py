"""Squared distance between the two embeddings of each pair."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .term import LossTerm


def paired_loss(context_embeds: torch.Tensor, query_embeds: torch.Tensor) -> torch.Tensor:
    r"""Mean squared distance of paired embeddings.

    .. math:: L = \frac1B \sum_i \lVert x_i - y_i \rVert^2

    An upper bound on W2 squared of the two clouds (the pairing is one admissible plan). It is zero for constant maps:
    use it with a variance, contrastive or reconstruction term.

    Shapes: B pairs, D shared width.

    Args:
        context_embeds: (B, D).
        query_embeds: (B, D), row i belonging to row i of the context.

    Returns:
        Scalar, squared units of the shared space, float32.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> paired_loss(torch.zeros(4, 2), torch.ones(4, 2)).item()
        2.0
    """
    if context_embeds.shape != query_embeds.shape:
        raise ValueError(
            f"`context_embeds` {tuple(context_embeds.shape)} and `query_embeds` {tuple(query_embeds.shape)} must have "
            "the same shape: each row of one belongs to a row of the other."
        )
    return (context_embeds.float() - query_embeds.float()).square().sum(dim=-1).mean()


@dataclass
class PairedTerm(LossTerm):
    """[`paired_loss`] of the shared embeddings."""

    name: ClassVar[str] = "paired"
    of_sets: ClassVar[bool] = False

    def __call__(self, outputs: Any) -> torch.Tensor:
        """Mean squared distance of the pairs."""
        return paired_loss(outputs.context_embeds, outputs.query_embeds)
