"""Orthogonal Procrustes: the rotation that carries one side onto the other, also between different widths."""

import torch
from torch import Tensor

from .moment_fit import MomentFit, check_shared_dim
from .moments import Moments, MomentsFrom


def procrustes_weights(cross: Tensor, shared_dim: int) -> tuple[Tensor, Tensor]:
    r"""Split the best rotation into one semi-orthogonal map per side.

    $$ C_{xy} = U S V^\top, \quad W_x = U_{:d}^\top, \; W_y = V_{:d}^\top $$

    Args:
        cross: Cross-covariance, (Dc, Dq), float64.
        shared_dim: d, at most min(Dc, Dq).

    Returns:
        (d, Dc) and (d, Dq), rows orthonormal, in falling order of covariance.

    Example:
        >>> wx, wy = procrustes_weights(torch.diag(torch.tensor([1.0, 2.0])).double(), 1)
        >>> wx.abs().tolist(), wy.abs().tolist()
        ([[0.0, 1.0]], [[0.0, 1.0]])
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
        shared_dim: Width of the shared space, at most the narrower side's; None takes the narrower side's.
            Directions are sorted by covariance, so a smaller width keeps the strongest and drops noise.
        moments_from: Rows behind the means: `"pairs"` or `"all"`.

    Attributes:
        rotation_: (Dc, Dq), $U V^\top$, the `R` of `scipy.linalg.orthogonal_procrustes`: `x @ R`
            is near `y`.

    Raises:
        ValueError: If `shared_dim` is out of range at `fit`.

    Example:
        >>> x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
        >>> Procrustes(shared_dim=2).fit(x, x[:, [2, 0, 1]]).context_map_.weight.shape
        torch.Size([2, 3])

    Source: Schönemann 1966; checked against scipy.linalg.orthogonal_procrustes.
    """

    _need = (False, False)
    rotation_: Tensor

    def __init__(self, shared_dim: int | None = None, moments_from: MomentsFrom = "pairs") -> None:
        self.shared_dim, self.moments_from = shared_dim, moments_from

    def solve(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Return both weights: leading singular vectors of the cross-covariance."""
        width = check_shared_dim(self.shared_dim, min(moments.cross_cov.shape))
        context, query = procrustes_weights(moments.cross_cov, width)
        self.rotation_ = context.T @ query
        return context, query
