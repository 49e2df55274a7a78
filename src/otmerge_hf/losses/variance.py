"""A floor under each dimension's spread, against collapse to a constant."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .points import check_positive, in_float32
from .term import LossTerm


@in_float32
def variance_loss(embeds: torch.Tensor, floor: float = 1.0) -> torch.Tensor:
    r"""How far the standard deviations of the dimensions fall short of a floor; in [0, floor].

    $$ L = \frac1D \sum_j \max(0, \gamma - \sqrt{\operatorname{Var}_j + 10^{-4}}) $$

    Args:
        embeds: (B, D), B >= 2; one row has no spread and gives floor - 0.01, without gradient.
        floor: gamma, in units of the shared space.

    Example:
        >>> variance_loss(torch.tensor([[0.0, 0.0], [4.0, 4.0]])).item()
        0.0

    Source: Bardes, Ponce and LeCun 2022 (VICReg), equation 1.
    """
    if embeds.dim() != 2:
        raise ValueError(f"`embeds` has shape {tuple(embeds.shape)}; expected (rows, dimensions).")
    check_positive(floor, "floor")
    spread = (embeds.var(dim=0, unbiased=len(embeds) > 1) + 1e-4).sqrt()
    return (floor - spread).clamp(min=0).mean()


@dataclass
class VarianceTerm(LossTerm):
    """[`variance_loss`] of the context's and of the query's shared embeddings, averaged."""

    floor: float = 1.0
    name: ClassVar[str] = "variance"

    def __call__(self, outputs: Any) -> torch.Tensor:
        context, query = (variance_loss(x, self.floor) for x in (outputs.context_embeds, outputs.query_embeds))
        return (context + query) / 2
