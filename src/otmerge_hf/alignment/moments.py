"""Means and covariances of two sides, in float64, from chunks of rows: all that closed forms read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


# Rows raised to float64 at a time: 4096 x 1024 is 32 MiB.
CHUNK_ROWS = 4096
MomentsFrom = Literal["pairs", "all"]


@dataclass
class Moments:
    """First and second moments; every covariance is a mean over rows, not a sum.

    Attributes:
        context_mean: (Dc,).
        query_mean: (Dq,).
        context_cov: (Dc, Dc), or None when it was not asked for.
        query_cov: (Dq, Dq), or None.
        cross_cov: (Dc, Dq), mean over pairs of the centred outer product.
        count: Number of pairs behind `cross_cov`.
    """

    context_mean: Tensor
    query_mean: Tensor
    context_cov: Tensor | None
    query_cov: Tensor | None
    cross_cov: Tensor
    count: int


def _chunks(x: Tensor, rows: Tensor | None) -> Iterator[Tensor]:
    total = len(x) if rows is None else len(rows)
    for start in range(0, total, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        yield (x[part] if rows is None else x[rows[part]]).double()


def mean_of(x: Tensor, rows: Tensor | None = None) -> Tensor:
    """Mean of the rows (or of the rows named), (N, D) -> (D,), float64.

    Example:
        >>> mean_of(torch.tensor([[1.0], [3.0]]))
        tensor([2.], dtype=torch.float64)
    """
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    for chunk in _chunks(x, rows):
        total += chunk.sum(0)
    return total / (len(x) if rows is None else len(rows))


def covariance_of(x: Tensor, mean: Tensor, rows: Tensor | None = None) -> Tensor:
    """Covariance about `mean` (divided by the row count), (N, D) -> (D, D), float64.

    Example:
        >>> covariance_of(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0]).double())
        tensor([[1.]], dtype=torch.float64)
    """
    total = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for chunk in _chunks(x, rows):
        centred = chunk - mean  # not in place: a float64 chunk is a view of the caller's data
        total.addmm_(centred.T, centred)
    return total / (len(x) if rows is None else len(rows))


def paired_moments(
    context: Tensor,
    query: Tensor,
    pairs: Tensor,
    *,
    moments_from: MomentsFrom = "pairs",
    need: tuple[bool, bool] = (True, True),
) -> Moments:
    r"""Moments of paired features, without a copy of the features.

    $$ C_{xy} = \frac1P \sum_p (x_{i_p} - m_x)(y_{j_p} - m_y)^\top $$

    Args:
        context: Features, (N, Dc).
        query: Features, (M, Dq).
        pairs: (P, 2) long.
        moments_from: Take means and the two covariances over the rows of the `"pairs"`, or over `"all"` rows. The
            cross-covariance is that of the pairs either way, so `"all"` mixes two samples: errors of the pairs'
            sample that cancel in `"pairs"` do not cancel then, and few pairs often do worse with it.
        need: Whether `context_cov` and `query_cov` are wanted (they cost more than the cross-covariance).

    Returns:
        The moments, float64.

    Raises:
        ValueError: If `moments_from` is unknown.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> paired_moments(x, 3 * x, torch.tensor([[0, 0], [1, 1]])).cross_cov
        tensor([[3.]], dtype=torch.float64)
    """
    if moments_from not in ("pairs", "all"):
        raise ValueError(f"moments_from must be 'pairs' or 'all', got {moments_from!r}")
    sides, means, covariances = (context, query), [], []
    for side, wanted, column in zip(sides, need, pairs.T, strict=True):
        # Row i with row i, all rows: plain slices spare the gather.
        rows = None if moments_from == "all" or _is_range(column, len(side)) else column
        means.append(mean_of(side, rows))
        covariances.append(covariance_of(side, means[-1], rows) if wanted else None)
    columns = [None if _is_range(column, len(side)) else column for side, column in zip(sides, pairs.T, strict=True)]
    cross = context.new_zeros(context.shape[1], query.shape[1], dtype=torch.float64)
    for x, y in zip(_chunks(context, columns[0]), _chunks(query, columns[1]), strict=True):
        cross.addmm_((x - means[0]).T, y - means[1])
    return Moments(means[0], means[1], covariances[0], covariances[1], cross / len(pairs), len(pairs))


def _is_range(rows: Tensor, total: int) -> bool:
    return len(rows) == total and bool((rows == torch.arange(total, device=rows.device)).all())


def inverse_square_root(matrix: Tensor, ridge: float) -> Tensor:
    r"""Symmetric $(C + \lambda \bar c I)^{-1/2}$, where $\bar c$ is the mean of C's diagonal.

    Directions without variance are dropped (pseudo-inverse) when `ridge` is 0.

    Args:
        matrix: Covariance, (D, D), float64.
        ridge: $\lambda$, relative to the mean variance, at least 0.

    Returns:
        (D, D), float64.

    Example:
        >>> inverse_square_root(4 * torch.eye(1).double(), 0.0)
        tensor([[0.5000]], dtype=torch.float64)
    """
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values = values.clamp_min(0) + ridge * matrix.diagonal().mean()
    keep = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    scale = torch.where(keep, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
    return (vectors * scale) @ vectors.T
