"""Ridge regression of one side on the other: the first thing to try below about a hundred pairs."""

from typing import Literal

import torch
from torch import Tensor

from .base import check_ridge
from .moment_fit import MomentFit
from .moments import Moments, MomentsFrom


class Ridge(MomentFit):
    r"""Linear regression from one encoder's space into the other's, with a penalty.

    $$ W = \arg\min_W \tfrac1P \sum_p |y_p - W x_p|^2 + \alpha \, \bar c \, |W|_F^2 $$

    with centred features and $\bar c$ the mean variance of a dimension of x, so that `alpha` does not
    depend on the features' scale. The shared space is the (centred) space of the `target` side; its own map
    is the identity.

    Args:
        alpha: Penalty, relative to the mean variance; 0 is least squares and needs more pairs than
            dimensions.
        target: Side whose space is kept: `"query"` (context is mapped) or `"context"` (query is mapped).
        alpha_scale: `"mean"` or `"absolute"`: scikit-learn's, added to the sum over pairs, is
            `alpha * mean variance * pairs`.
        moments_from: Rows behind the means and the covariance: `"pairs"` or `"all"`.

    Example:
        >>> x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        >>> y = x @ torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> Ridge(alpha=0.0).fit(x, y).shared_dim_
        2

    Source: Hoerl & Kennard 1970; checked against sklearn.linear_model.Ridge.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        target: Literal["query", "context"] = "query",
        alpha_scale: Literal["mean", "absolute"] = "mean",
        moments_from: MomentsFrom = "pairs",
    ) -> None:
        check_ridge("alpha", alpha)
        if target not in ("query", "context"):
            raise ValueError(f"target must be 'query' or 'context', got {target!r}")
        if alpha_scale not in ("mean", "absolute"):
            raise ValueError(f"alpha_scale must be 'mean' or 'absolute', got {alpha_scale!r}")
        self.alpha, self.target, self.alpha_scale, self.moments_from = alpha, target, alpha_scale, moments_from

    def _least(self, context_dim: int, query_dim: int) -> int:
        source = context_dim if self.target == "query" else query_dim
        return 2 if self.alpha > 0 else source + 1

    def solve(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Return both weights: the regression and the identity."""
        to_query = self.target == "query"
        source = moments.covariances[0 if to_query else 1]
        cross = moments.cross if to_query else moments.cross.T  # (D_source, D_target)
        unit = source.diagonal().mean() if self.alpha_scale == "mean" else 1 / moments.count
        penalised = source + self.alpha * unit * torch.eye(len(source)).to(source)
        factor, failed = torch.linalg.cholesky_ex(penalised)
        if int(failed):
            raise ValueError("the source side's features are linearly dependent: use alpha > 0")
        weight = torch.cholesky_solve(cross, factor).T
        identity = torch.eye(len(weight)).to(weight)
        return (weight, identity) if to_query else (identity, weight)
