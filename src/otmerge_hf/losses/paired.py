"""Squared distance between the two embeddings of each pair."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .points import check_same_shape, connected_zero, in_float32, pair_rows
from .term import LossTerm


@in_float32
def paired_loss(context_embeds: torch.Tensor, query_embeds: torch.Tensor) -> torch.Tensor:
    r"""Mean squared distance of paired embeddings; in squared units of the shared space.

    $$ L = \frac1B \sum_i \lVert x_i - y_i \rVert^2 $$

    An upper bound on W2 squared of the two clouds (the pairing is one admissible plan). It is zero for constant maps:
    use it with a variance, contrastive or reconstruction term.

    Args:
        context_embeds, query_embeds: (B, D), row i belonging to row i; the loss is zero if there are no rows.

    Example:
        >>> paired_loss(torch.zeros(4, 2), torch.ones(4, 2)).item()
        2.0
    """
    check_same_shape(context_embeds, query_embeds)
    if len(context_embeds) == 0:
        return connected_zero(context_embeds, query_embeds)
    return (context_embeds - query_embeds).square().sum(dim=-1).mean()


@dataclass
class PairedTerm(LossTerm):
    """[`paired_loss`] of the rows that are pairs.

    A mean over the batch's pairs: batches (of ranks, of an accumulation window) teach alike only if each holds the
    same number of pairs, as [`MixedCollator`]'s do.
    """

    name: ClassVar[str] = "paired"
    batch_level: ClassVar[bool] = False

    def __call__(self, outputs: Any) -> torch.Tensor:
        context, query, _ = pair_rows(outputs)
        return paired_loss(context, query)
