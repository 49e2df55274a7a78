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
    _covariances: ClassVar[bool] = True  # whether the closed form reads those of each side

    @abstractmethod
    def solve(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Return both weights, (shared_dim, Dc) and (shared_dim, Dq), float64, for centred features."""

    def _least(self, context_dim: int, query_dim: int) -> int:
        """Fewest pairs that determine the fit."""
        return 2

    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit the two maps from pairs; see [`Alignment`]."""
        least = self._least(*(torch.as_tensor(side).shape[-1] for side in (context, query)))
        context, query, index = check_fit(type(self).__name__, context, query, pairs, least)
        moments = paired_moments(context, query, index, moments_from=self.moments_from, covariances=self._covariances)
        return self.fit_moments(moments, torch.promote_types(context.dtype, query.dtype))

    def fit_moments(self, moments: Moments, dtype: torch.dtype) -> Self:
        """Fit from moments that are known already; the maps get the features' `dtype`."""
        self._set_maps(self.solve(moments), moments.means, dtype, moments.count)
        return self
