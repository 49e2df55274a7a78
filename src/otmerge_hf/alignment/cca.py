"""Regularised canonical correlation analysis: whiten each side, then rotate; best with many pairs."""

import torch
from torch import Tensor

from .base import check_ridge, check_shared_dim
from .moment_fit import MomentFit
from .moments import Moments, MomentsFrom


class CCA(MomentFit):
    r"""Whitening of both sides followed by Procrustes, with directions weighted by their correlation.

    $$ T = (C_x + \lambda \bar c_x I)^{-1/2} C_{xy} (C_y + \lambda \bar c_y I)^{-1/2} = U S V^\top $$
    $$ W_x = S_d^{w} U_d^\top (C_x + \lambda \bar c_x I)^{-1/2}, \quad
       W_y = S_d^{w} V_d^\top (C_y + \lambda \bar c_y I)^{-1/2} $$

    Args:
        regularization: $\lambda$, relative to each side's mean variance. 0 is classical CCA and needs
            more pairs than dimensions; a large value tends to Procrustes.
        shared_dim: Width of the shared space; None takes the narrower side's, the most there is.
        correlation_weight: w; 0 gives every direction the same weight, 1 scales by the canonical correlation,
            so that noise directions count little in the cosine.
        moments_from: Rows behind the means and the two covariances: `"pairs"` or `"all"` (unpaired rows
            help here).

    Attributes:
        correlations_: Canonical correlations, (shared_dim,), falling (of the regularised problem).

    Example:
        >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> CCA(regularization=0.0).fit(x, 2 * x + 1).correlations_.round(decimals=4)
        tensor([1., 1., 1.], dtype=torch.float64)

    Source: Hotelling 1936; ridge: Vinod 1976; correlation weights: Li et al. 2025 (CSA), eq. 5. Checked
    against sklearn.cross_decomposition.CCA.
    """

    correlations_: Tensor

    def __init__(
        self,
        regularization: float = 0.1,
        shared_dim: int | None = None,
        correlation_weight: float = 1.0,
        moments_from: MomentsFrom = "pairs",
    ) -> None:
        check_ridge("regularization", regularization)
        check_ridge("correlation_weight", correlation_weight)
        self.regularization, self.shared_dim = regularization, shared_dim
        self.correlation_weight, self.moments_from = correlation_weight, moments_from

    def _least(self, context_dim: int, query_dim: int) -> int:
        return 2 if self.regularization > 0 else max(context_dim, query_dim) + 1

    def solve(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Return both weights: whitening, rotation, correlation weights."""
        width = check_shared_dim(self.shared_dim, min(moments.cross.shape))
        # (Dc, Dc) and (Dq, Dq)
        rank = moments.count if self.moments_from == "pairs" else None
        white_context, white_query = (moments.whitening(side, self.regularization, rank) for side in (0, 1))
        left, values, right = torch.linalg.svd(white_context @ moments.cross @ white_query, full_matrices=False)
        self.correlations_ = values[:width]
        weight = self.correlations_[:, None] ** self.correlation_weight
        return weight * (left[:, :width].T @ white_context), weight * (right[:width] @ white_query)
