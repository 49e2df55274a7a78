"""Orthogonal Procrustes: the rotation that carries one side onto the other, also between different widths."""

import torch
from torch import Tensor

from .base import check_shared_dim
from .moment_fit import MomentFit
from .moments import Moments, MomentsFrom


def procrustes_weights(cross: Tensor, shared_dim: int) -> tuple[Tensor, Tensor]:
    r"""Semi-orthogonal maps (d, Dc) and (d, Dq) of the strongest directions of a cross-covariance (Dc, Dq).

    $$ C_{xy} = U S V^\top, \quad W_x = U_{:d}^\top, \; W_y = V_{:d}^\top $$
    """
    left, _, right = torch.linalg.svd(cross, full_matrices=False)
    return left[:, :shared_dim].T, right[:shared_dim]


class Procrustes(MomentFit):
    r"""Orthogonal maps of both sides into a shared space, with the largest covariance there.

    $$ \max_{W_x, W_y} \operatorname{tr}(W_x C_{xy} W_y^\top), \quad W_x W_x^\top = W_y W_y^\top = I $$

    When both widths equal the shared one, $W_y^\top W_x$ is the classical rotation of x onto y.
    Inverses are transposes. Steady from about a hundred pairs on; loads into an `orthogonal` adapter
    exactly.

    Args:
        shared_dim: Width of the shared space; None takes the narrower side's, the most there is.
            Directions are sorted by covariance, so a smaller width keeps the strongest and drops noise.
        moments_from: Rows behind the means: `"pairs"` or `"all"`.

    Attributes:
        rotation_: (Dc, Dq), $U V^\top$, the `R` of `scipy.linalg.orthogonal_procrustes`: `x @ R`
            is near `y`.

    Example:
        >>> x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
        >>> Procrustes(shared_dim=2).fit(x, x[:, [2, 0, 1]]).context_map_.weight.shape
        torch.Size([2, 3])

    Source: Schönemann 1966; checked against scipy.linalg.orthogonal_procrustes.
    """

    _covariances = False
    rotation_: Tensor

    def __init__(self, shared_dim: int | None = None, moments_from: MomentsFrom = "pairs") -> None:
        self.shared_dim, self.moments_from = shared_dim, moments_from

    def solve(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Return both weights: leading singular vectors of the cross-covariance."""
        width = check_shared_dim(self.shared_dim, min(moments.cross.shape))
        context, query = procrustes_weights(moments.cross, width)
        self.rotation_ = context.T @ query
        return context, query
