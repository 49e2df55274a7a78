"""Paired fits that read nothing but moments: one pass over the data, then small matrices."""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import Alignment, check_fit
from .moments import Moments, MomentsFrom, paired_moments


class MomentFit(Alignment):
    """A closed form in the moments of the pairs; subclasses say which moments and what to do with them."""

    moments_from: MomentsFrom = "pairs"
    # Which of the two covariances the closed form reads.
    _need: ClassVar[tuple[bool, bool]] = (True, True)

    @abstractmethod
    def solve(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Return both weights, (shared_dim, Dc) and (shared_dim, Dq), float64, for centred features."""

    def _least(self, context_dim: int, query_dim: int) -> int:
        """Fewest pairs that determine the fit."""
        return 2

    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit the two maps from pairs; see [`Alignment`].

        Raises:
            ValueError: If the features or pairs are malformed, or the pairs too few.
        """
        context_dim, query_dim = (torch.as_tensor(side).shape[-1] for side in (context, query))
        context, query, index = check_fit(
            type(self).__name__, context, query, pairs, self._least(context_dim, query_dim)
        )
        moments = paired_moments(context, query, index, moments_from=self.moments_from, need=self._need)
        self.fit_moments(moments, torch.promote_types(context.dtype, query.dtype))
        return self

    def fit_moments(self, moments: Moments, dtype: torch.dtype) -> None:
        """Fit from moments that are known already; the maps get the features' `dtype`."""
        means = (moments.context_mean, moments.query_mean)
        self._set_maps(self.solve(moments), means, dtype, moments.count)


def check_shared_dim(shared_dim: int | None, largest: int) -> int:
    """Return the width to use: `largest` when None.

    Args:
        shared_dim: Wanted width, or None.
        largest: Widest that the two sides allow.

    Raises:
        ValueError: If it is not between 1 and `largest`.

    Example:
        >>> check_shared_dim(None, 3)
        3
    """
    if shared_dim is None:
        return largest
    if not 1 <= shared_dim <= largest:
        raise ValueError(f"shared_dim must be between 1 and {largest}, the narrower side's width; got {shared_dim}")
    return shared_dim


def check_ridge(name: str, value: float) -> None:
    """Refuse a regularisation that is not a finite number of at least 0.

    Raises:
        ValueError: If it is negative, NaN or infinite.

    Example:
        >>> check_ridge("alpha", 0.1)
    """
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number, at least 0; got {value}")
