"""What comes in: a solved problem. What goes out: everything one may ask of it, made when asked."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ._checks import row_blocks, upcast
from ._scaling import Solution
from .geometry import Geometry


# Rows of the plan made at a time by `barycentric_projection`, in entries: 32 MiB of float32.
_BLOCK_ENTRIES = 2**23


@dataclass(frozen=True)
class Solved:
    """A value, () or (B,), in units of the cost and differentiable in the inputs, with what certifies it, detached."""

    value: Tensor
    _geometry: Geometry = field(repr=False)
    _solution: Solution = field(repr=False)
    _tol: float = field(repr=False)

    @cached_property
    def potentials(self) -> tuple[Tensor, Tensor]:
        """Dual potentials f (..., N), g (..., M), in units of the cost; pass them to the next solve to start warm."""
        with torch.no_grad():
            return self._geometry.to_potentials(self._solution.phi, self._solution.psi)

    @cached_property
    def epsilon(self) -> Tensor:
        """Entropic regularisation that was used, () or (B,), in units of the cost."""
        return self.value.detach().new_tensor(self._geometry.epsilons).reshape(self.value.shape)

    @property
    def marginal_error(self) -> Tensor:
        """L1 distance of the plan's column marginal from `b`, () or (B,), in [0, 2]; the row marginal is exact."""
        return self._solution.marginal_error

    @property
    def converged(self) -> Tensor:
        """True where `marginal_error` is within the tolerance of the solve, () or (B,), boolean."""
        return self.marginal_error <= self._tol

    @property
    def iterations(self) -> int:
        """Iterations of the solve, those of the slowest item of a batch."""
        return self._solution.iterations


@dataclass(frozen=True)
class TransportResult(Solved):
    r"""An entropic transport plan and its certificates.

    The plan is $P_{ij} = a_i b_j \exp((f_i + g_j - C_{ij})/\varepsilon)$. Only `value` carries gradients. Shapes: N
    source points, M target points, a leading batch B when the clouds had one.

    Example:
        >>> from otmerge_hf.transport import sinkhorn
        >>> result = sinkhorn(torch.eye(3), torch.eye(3) + 1.0)
        >>> bool(result.converged), result.plan().shape
        (True, torch.Size([3, 3]))
    """

    def plan(self) -> Tensor:
        """Return the plan, (N, M) or (B, N, M), total mass 1, zero on padding; built anew at every call."""
        return plan_of(self._geometry, self._solution.phi, self._solution.psi)

    def barycentric_projection(self, y: Tensor) -> Tensor:
        r"""Send each source point to the plan-weighted mean of target features.

        $$ T(x_i) = \sum_j P_{ij} y_j \Big/ \sum_j P_{ij} $$

        Args:
            y: Features of the target points, (M, E) or (B, M, E), in any unit. Gradients flow to `y`, not to the plan.

        Returns:
            Projected features, (N, E) or (B, N, E), float32 (float64 when the solve was); zeros on padded rows.

        Raises:
            ValueError: If `y` does not hold one row per target point.

        Example:
            >>> from otmerge_hf.transport import sinkhorn
            >>> x = torch.tensor([[0.0], [1.0]])
            >>> sinkhorn(x, x + 5, epsilon=0.001).barycentric_projection(x + 5)
            tensor([[5.],
                    [6.]])

        Source: Ferradans et al. 2014; checked against POT's `ot.da.SinkhornTransport.transform`.
        """
        f, g = self._solution.phi, self._solution.psi
        features = upcast(y, "y")
        if features.dim() == 0 or features.shape != (*g.shape, features.shape[-1]):
            raise ValueError(f"y must have shape {(*g.shape, 'E')}, got {tuple(y.shape)}")
        features = self._geometry.b.fill(features.to(f.dtype))
        parts = []
        for rows in row_blocks(f.shape[-1], max(1, _BLOCK_ENTRIES // g.numel())):
            plan = plan_of(self._geometry, f, g, rows)
            parts.append(plan @ features / plan.sum(-1, keepdim=True).clamp_min(torch.finfo(f.dtype).tiny))
        return torch.cat(parts, dim=-2)


@torch.no_grad()
def plan_of(geometry: Geometry, phi: Tensor, psi: Tensor, rows: slice = slice(None)) -> Tensor:
    """Rows of the plan from log-scalings phi (..., N) and psi (..., M), (..., n, M)."""
    plan = geometry.logits(psi, rows).add_(phi[..., rows].unsqueeze(-1)).exp_()
    return plan.mul_(geometry.a.weights[..., rows].unsqueeze(-1)).mul_(geometry.b.weights.unsqueeze(-2))
