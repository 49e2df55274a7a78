"""New pairs from a fit: unpaired features in, the row pairs that it is surest of out."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..metrics.neighbours import nearest_neighbours, normalise
from ..transport import sinkhorn
from .base import Alignment, unpaired_rows


class PseudoPairs(NamedTuple):
    """Guessed pairs, surest first.

    Attributes:
        pairs: (P, 2) long: context row, query row; P may be 0.
        confidence: (P,), cosine in [-1, 1] for `"mutual"`, share of mass in [0, 1] for `"plan"`.
    """

    pairs: Tensor
    confidence: Tensor


def pseudo_pairs(
    alignment: Alignment,
    context: Tensor,
    query: Tensor,
    *,
    method: Literal["mutual", "plan"] = "mutual",
    level: float | None = None,
    epsilon: float = 0.05,
    known: Any = None,
) -> PseudoPairs:
    r"""Guess pairs among unpaired rows under a fitted map.

    `"mutual"` keeps (i, j) when each is the other's nearest neighbour by cosine. `"plan"` solves entropic
    transport in the shared space and keeps (i, j) when enough of the mass that could go between them does:

    $$ P_{ij} / \min(a_i, b_j) = P_{ij} \max(N, M) \ge \text{level} $$

    Args:
        alignment: A fitted alignment.
        context, query: Features, (N, Dc) and (M, Dq).
        method: `"mutual"` or `"plan"`. The plan weighs all points at once, so that one popular point cannot hide the
            matches of others; it holds an N x M matrix, so pass some thousands of rows at a time.
        level: Least confidence: a cosine for `"mutual"` (all when None), a share of mass for `"plan"`
            (0.5 when None; above 0.5 a row of the longer side is in one pair at most).
        epsilon: Of the plan, relative to the mean cosine cost.
        known: Pairs that are known, (P, 2): their rows are left out.

    Raises:
        ValueError: If the method is unknown, or the features do not suit the fit.

    Example:
        >>> from otmerge_hf.alignment import Procrustes
        >>> x = torch.eye(4)
        >>> found = pseudo_pairs(Procrustes().fit(x, x), x, x.flip(0))
        >>> sorted(map(tuple, found.pairs.tolist()))
        [(0, 3), (1, 2), (2, 1), (3, 0)]

    Source: mutual neighbours: Artetxe et al. 2018, section 3.3.
    """
    if method not in ("mutual", "plan"):
        raise ValueError(f"method must be 'mutual' or 'plan', got {method!r}")
    shared = [alignment.transform_context(context), alignment.transform_query(query)]
    rows = [torch.arange(len(side), device=side.device) for side in shared]
    if known is not None:
        rows = list(unpaired_rows(torch.as_tensor(known).long(), len(shared[0]), len(shared[1])))
    if min(map(len, rows)) == 0:
        return PseudoPairs(torch.zeros(0, 2, dtype=torch.long), torch.zeros(0))
    x, y = (normalise(side[index]) for side, index in zip(shared, rows, strict=True))
    if method == "mutual":
        first, second, confidence = _mutual(x, y, -1.0 if level is None else level)
    else:
        first, second, confidence = _by_plan(x, y, 0.5 if level is None else level, epsilon)
    order = confidence.argsort(descending=True, stable=True)
    pairs = torch.stack([rows[0][first], rows[1][second]], dim=1)
    return PseudoPairs(pairs[order], confidence[order])


def _mutual(x: Tensor, y: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
    scores, forward = (found[:, 0] for found in nearest_neighbours(x, y, 1))
    _, backward = (found[:, 0] for found in nearest_neighbours(y, x, 1))
    rows = torch.arange(len(x), device=x.device)
    keep = (backward[forward] == rows) & (scores >= level)
    return rows[keep], forward[keep], scores[keep]


def _by_plan(x: Tensor, y: Tensor, level: float, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    plan = sinkhorn(x, y, epsilon=epsilon).plan()  # (N, M), sum 1; rows 1/N, columns 1/M
    # The lighter of two points can give all its mass, the heavier cannot: measure by the lighter.
    share = plan * max(len(x), len(y))
    first, second = (share >= level).nonzero(as_tuple=True)
    return first, second, share[first, second].clamp_max(1)
