"""What comes in: a solved problem. What goes out: everything one may ask of it, made when asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ._checks import upcast
from ._scaling import Solution
from .geometry import Geometry


# Rows of the plan made at a time by `barycentric_projection`, in entries: 32 MiB of float32.
_BLOCK_ENTRIES = 2**23


@dataclass(frozen=True)
class TransportResult:
    r"""An entropic transport plan and its certificates.

    The plan is $P_{ij} = a_i b_j \exp((f_i + g_j - C_{ij})/\varepsilon)$. Only `value` carries gradients;
    everything else is detached. Shapes: N source points, M target points, a leading batch B when the clouds had one.

    Attributes:
        value: Optimal value, () or (B,), in units of the cost; differentiable in the inputs of the solve.
        potentials: Dual potentials f (N,), g (M,), or (B, N), (B, M), in units of the cost. Pass them to the next
            solve as `potentials` for a warm start.
        epsilon: Entropic regularisation that was used, () or (B,), in units of the cost.
        marginal_error: L1 distance of the plan's column marginal from `b`, () or (B,), between 0 and 2; the row
            marginal is exact.
        converged: True where `marginal_error` is within the tolerance of the solve, () or (B,), boolean.
        iterations: Iterations of the solve (of the slowest item of a batch).

    Example:
        >>> import torch
        >>> from otmerge_hf.transport import sinkhorn
        >>> x, y = torch.eye(3), torch.eye(3) + 1.0
        >>> result = sinkhorn(x, y)
        >>> bool(result.converged), result.plan().shape
        (True, torch.Size([3, 3]))
    """

    value: Tensor
    _geometry: Geometry = field(repr=False)
    _solution: Solution = field(repr=False)
    _tol: float = field(repr=False)

    @cached_property
    def potentials(self) -> tuple[Tensor, Tensor]:
        """Dual potentials in units of the cost."""
        with torch.no_grad():
            return self._geometry.to_potentials(self._solution.phi, self._solution.psi)

    @cached_property
    def epsilon(self) -> Tensor:
        """Epsilon in units of the cost."""
        epsilons = self._solution.phi.new_tensor(self._geometry.epsilons)
        return epsilons.reshape(self._solution.phi.shape[:-1])

    @property
    def marginal_error(self) -> Tensor:
        """L1 error of the column marginal."""
        return self._solution.marginal_error

    @cached_property
    def converged(self) -> Tensor:
        """Whether the marginal error is within tolerance."""
        return self._solution.marginal_error <= self._tol

    @property
    def iterations(self) -> int:
        """Iterations of the slowest item."""
        return self._solution.iterations

    def plan(self) -> Tensor:
        """Return the plan, (N, M) or (B, N, M), total mass 1; rows and columns of padding are zero.

        Built anew at every call: N * M floats.
        """
        return plan_of(self._geometry, self._solution.phi, self._solution.psi)

    def barycentric_projection(self, y: Tensor) -> Tensor:
        r"""Send each source point to the plan-weighted mean of target features.

        $$ T(x_i) = \sum_j P_{ij} y_j \Big/ \sum_j P_{ij} $$

        Args:
            y: Features of the target points, (M, E) or (B, M, E), in any unit: the target cloud itself, or
                anything that belongs to its points. Gradients flow to `y`, not to the plan.

        Returns:
            Projected features, (N, E) or (B, N, E), float32 (float64 when the solve was); zeros on padded rows.

        Raises:
            ValueError: If `y` does not hold one row per target point.

        Example:
            >>> import torch
            >>> from otmerge_hf.transport import sinkhorn
            >>> x = torch.tensor([[0.0], [1.0]])
            >>> sinkhorn(x, x + 5, epsilon=0.001).barycentric_projection(x + 5)
            tensor([[5.],
                    [6.]])

        Source: Ferradans et al. 2014; checked against POT's `ot.da.SinkhornTransport.transform`.
        """
        f, g = self._solution.phi, self._solution.psi
        features = upcast(y, "y")
        expected = (*g.shape, features.shape[-1] if features.dim() else 0)
        if features.shape != expected:
            raise ValueError(f"y must have shape {(*g.shape, 'E')}, got {tuple(y.shape)}")
        features = features.to(f.dtype)
        if self._geometry.b.padding is not None:
            features = features.masked_fill(self._geometry.b.padding.unsqueeze(-1), 0.0)
        block = max(1, _BLOCK_ENTRIES // g.numel())
        parts = []
        for start in range(0, f.shape[-1], block):
            rows = plan_of(self._geometry, self._solution.phi, self._solution.psi, slice(start, start + block))
            parts.append(rows @ features / rows.sum(-1, keepdim=True).clamp_min(torch.finfo(f.dtype).tiny))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


@torch.no_grad()
def plan_of(geometry: Geometry, phi: Tensor, psi: Tensor, rows: slice = slice(None)) -> Tensor:
    """Rows of the plan from log-scalings phi (..., N) and psi (..., M), (..., n, M)."""
    plan = geometry.logits(psi, rows).add_(phi[..., rows].unsqueeze(-1)).exp_()
    return plan.mul_(geometry.a.weights[..., rows].unsqueeze(-1)).mul_(geometry.b.weights.unsqueeze(-2))
