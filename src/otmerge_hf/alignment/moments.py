"""Means and covariances of two sides, in float64, from chunks of rows: all that closed forms read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


# Rows raised to float64 at a time: 4096 x 1024 is 32 MiB.
CHUNK_ROWS = 4096
_LEAST_RIDGE = 1e-3  # below it the rounding of the smallest directions would show
MomentsFrom = Literal["pairs", "all"]


@dataclass
class Moments:
    """First and second moments; every covariance is a mean over rows, not a sum.

    Attributes:
        means: (Dc,) and (Dq,).
        covariances: (Dc, Dc) and (Dq, Dq); empty when they were not asked for.
        cross: (Dc, Dq), mean over pairs of the centred outer product.
        count: Number of pairs behind `cross`.
    """

    means: tuple[Tensor, Tensor]
    covariances: tuple[Tensor, ...]
    cross: Tensor
    count: int
    _spectra: dict[tuple[int, int | None], "_Spectrum"] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def joined(self, other: "Moments") -> "Moments":
        """Moments of both samples' pairs together, where both are `moments_from="pairs"` and share no pair."""
        total = self.count + other.count
        mine, theirs = self.count / total, other.count / total
        apart = [a - b for a, b in zip(self.means, other.means, strict=True)]

        def joint(a: Tensor, b: Tensor, left: Tensor, right: Tensor) -> Tensor:
            return mine * a + theirs * b + mine * theirs * left[:, None] * right

        within = zip(self.covariances, other.covariances, apart, apart, strict=True)
        means = [mine * a + theirs * b for a, b in zip(self.means, other.means, strict=True)]
        covariances = tuple(joint(*sides) for sides in within)
        return Moments((means[0], means[1]), covariances, joint(self.cross, other.cross, *apart), total)

    def whitening(self, side: int, ridge: float, rank: int | None = None) -> Tensor:
        r"""Symmetric $(C + \lambda \bar c I)^{-1/2}$ of a side's covariance (D, D); $\bar c$ is its diagonal's mean.

        Directions without variance are dropped (pseudo-inverse) when `ridge`, $\lambda$, is 0. `rank` is what the
        matrix has at most, where fewer than D rows made it: then a smaller matrix is decomposed, with the same
        result. Ridges share a decomposition, so covariances must not change afterwards.

        Example:
            >>> x = torch.tensor([[-2.0], [2.0]])
            >>> paired_moments(x, x, torch.tensor([[0, 0], [1, 1]])).whitening(0, 0.0)
            tensor([[0.5000]], dtype=torch.float64)
        """
        matrix = self.covariances[side]
        rank = _worthwhile(matrix, ridge, rank)
        if (side, rank) not in self._spectra:
            self._spectra[side, rank] = _Spectrum.of(matrix, rank)
        return self._spectra[side, rank].inverse_square_root(ridge)


@dataclass
class _Spectrum:
    """Eigenvalues of a covariance (D, D) and their directions.

    Attributes:
        values: (R,), rising.
        vectors: (D, R); R is D, or less where the rest of the values are 0 and their directions are not known.
        level: Mean of the covariance's diagonal.
    """

    values: Tensor
    vectors: Tensor
    level: Tensor

    @classmethod
    def of(cls, matrix: Tensor, rank: int | None = None) -> "_Spectrum":
        """Decompose; of `rank` or less, a smaller matrix in place of the whole."""
        matrix = (matrix + matrix.T) / 2
        level = matrix.diagonal().mean()
        if rank is None:
            values, vectors = torch.linalg.eigh(matrix)
            return cls(values, vectors, level)
        drawn = torch.randn(len(matrix), rank, generator=torch.Generator().manual_seed(0), dtype=matrix.dtype)
        basis = torch.linalg.qr(matrix @ drawn.to(matrix.device))[0]  # (D, rank), spans all that the matrix maps to
        values, turn = torch.linalg.eigh(basis.T @ matrix @ basis)
        return cls(values, basis @ turn, level)

    def inverse_square_root(self, ridge: float) -> Tensor:
        """As of [`Moments.whitening`]; where R < D, `ridge` must not be 0."""
        values, rest = self.values.clamp_min(0) + ridge * self.level, (ridge * self.level).rsqrt()
        if len(values) < len(self.vectors):
            scale = values.rsqrt() - rest
            return (self.vectors * scale) @ self.vectors.T + rest * torch.eye(len(self.vectors)).to(values)
        keep = values > values.max() * len(values) * torch.finfo(values.dtype).eps
        scale = torch.where(keep, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
        return (self.vectors * scale) @ self.vectors.T


def _chunks(x: Tensor, rows: Tensor) -> Iterator[Tensor]:
    return (x[part].double() for part in rows.split(CHUNK_ROWS))


def _counted(x: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """The rows that are named, once each, and how often (float64); all of them once, where `rows` is None."""
    if rows is None:
        return torch.arange(len(x), device=x.device), x.new_ones(len(x), dtype=torch.float64)
    named, counts = rows.unique(return_counts=True)
    return named, counts.double()


def mean_of(x: Tensor, rows: Tensor | None = None) -> Tensor:
    """Mean of the rows (or of the rows named), (N, D) -> (D,), float64."""
    named, counts = _counted(x, rows)
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    for chunk, count in zip(_chunks(x, named), counts.split(CHUNK_ROWS), strict=True):
        total += count @ chunk
    return total / counts.sum()


def covariance_of(x: Tensor, mean: Tensor, rows: Tensor | None = None) -> Tensor:
    """Covariance about `mean` (divided by the row count), (N, D) -> (D, D), float64.

    A row that is named often (an image of several captions) is multiplied once, by its count.
    """
    named, counts = _counted(x, rows)
    total = x.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for chunk, count in zip(_chunks(x, named), counts.split(CHUNK_ROWS), strict=True):
        chunk -= mean
        total.addmm_(chunk.T, chunk if rows is None else chunk * count[:, None])
    return total / counts.sum()


def cross_covariance_of(sides: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor], pairs: Tensor) -> Tensor:
    """Mean over pairs (P, 2) of the centred outer product, (N, Dc) and (M, Dq) -> (Dc, Dq), float64.

    The partners of a row are summed before they are multiplied with it: a product for each row of the side with
    fewer, not for each pair.
    """
    named = [column.unique(return_inverse=True) for column in pairs.T]
    fewer = min((0, 1), key=lambda side: len(named[side][0]))
    rows, places = named[fewer]
    order = places.argsort(stable=True)
    partners, owners, more = pairs[order, 1 - fewer], places[order], 1 - fewer
    total = sides[0].new_zeros(sides[fewer].shape[1], sides[more].shape[1], dtype=torch.float64)
    for place, chunk in enumerate(_chunks(sides[fewer], rows)):
        first = place * CHUNK_ROWS
        own = slice(*torch.searchsorted(owners, owners.new_tensor([first, first + len(chunk)])).tolist())
        summed = total.new_zeros(len(chunk), total.shape[1])
        for part, owner in zip(partners[own].split(CHUNK_ROWS), owners[own].split(CHUNK_ROWS), strict=True):
            summed.index_add_(0, owner - first, sides[more][part].double() - means[more])
        total.addmm_((chunk - means[fewer]).T, summed)
    return (total if fewer == 0 else total.T) / len(pairs)


def paired_moments(
    context: Tensor, query: Tensor, pairs: Tensor, *, moments_from: MomentsFrom = "pairs", covariances: bool = True
) -> Moments:
    r"""Moments of paired features, float64, without a copy of the features.

    $$ C_{xy} = \frac1P \sum_p (x_{i_p} - m_x)(y_{j_p} - m_y)^\top $$

    Args:
        context, query: Features, (N, Dc) and (M, Dq).
        pairs: (P, 2) long.
        moments_from: Take means and the two covariances over the rows of the `"pairs"`, or over `"all"` rows. The
            cross-covariance is that of the pairs either way, so `"all"` mixes two samples: errors of the pairs'
            sample that cancel in `"pairs"` do not cancel then, and few pairs often do worse with it.
        covariances: Whether those of each side are wanted (they cost more than the cross-covariance).

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> paired_moments(x, 3 * x, torch.tensor([[0, 0], [1, 1]])).cross
        tensor([[3.]], dtype=torch.float64)
    """
    if moments_from not in ("pairs", "all"):
        raise ValueError(f"moments_from must be 'pairs' or 'all', got {moments_from!r}")
    pairs = pairs.to(context.device)
    used = [
        (side, column if moments_from == "pairs" else None)
        for side, column in zip((context, query), pairs.T, strict=True)
    ]
    means = mean_of(*used[0]), mean_of(*used[1])
    wanted = zip(used, means, strict=True) if covariances else ()
    within = tuple(covariance_of(side, mean, rows) for (side, rows), mean in wanted)
    return Moments(means, within, cross_covariance_of((context, query), means, pairs), len(pairs))


def _worthwhile(matrix: Tensor, ridge: float, rank: int | None) -> int | None:
    """The rank, where decomposing less than the whole matrix gives the same result."""
    smaller = rank is not None and rank < len(matrix) and ridge >= _LEAST_RIDGE
    return rank if smaller and matrix.diagonal().mean() > 0 else None
