r"""What comes in: one centred cloud. What goes out: its transport to itself, the self term of a divergence.

Both potentials are the same. So one vector is iterated by $\varphi \leftarrow \tfrac12(\varphi + T\varphi)$, which at
least halves the error each time, as the kernel is positive semi-definite (Feydy et al. 2019, section 3.2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ._checks import row_blocks
from ._core import Options, integrate, per_problem
from ._scaling import EXPONENT_FLOOR, SAFE_SPREAD, Product, log_ratio, matvec, total_size
from .geometry import PointGeometry, inner_products, times


# On a GPU the host looks at the error once in so many iterations: every look waits for the device.
_LOOK_EVERY_ON_GPU = 4


@dataclass(frozen=True)
class SelfTerm:
    """A solved self term. Shapes: phi, potential (..., N), the rest (...).

    `dual` is the value less the mean cost; `potential` is f in units of the cost; `pulled`, (..., N, D), made when a
    gradient asks for it, is the plan, its rows fitted, times the centred points.
    """

    phi: Tensor
    dual: Tensor
    epsilons: list[float]
    potential: Tensor
    marginal_error: Tensor
    converged: bool
    iterations: int
    pulled: Tensor | None = field(repr=False)


class SelfProblem:
    """One centred cloud of a divergence, x (side 0) or y (side 1), against itself."""

    def __init__(self, geometry: PointGeometry, side: int) -> None:
        self.points, self.squares = (geometry.x, geometry.y)[side], geometry.squares[side]
        self.marginal, self.spread = (geometry.a, geometry.b)[side], geometry.spreads[1 + side]
        self.epsilons, self.epsilon, self.inverse = geometry.epsilons, geometry.epsilon, geometry.inverse

    def solve(self, options: Options, pull: bool) -> SelfTerm:
        """Iterate until the L1 error of the marginal is at most the tolerance; `pull` asks for `pulled`."""
        # With phi = -|x|^2 / 2 epsilon the kernel is exp(-C / epsilon): ones on the diagonal, nothing above.
        shift = None if self.spread <= SAFE_SPREAD else -0.5 * times(self.squares, self.inverse)
        weights = self.marginal.weights
        u, mass = weights.clone(), torch.empty_like(weights)
        product, multiply = self._products(shift, u, mass, options.memory_budget)
        every = _LOOK_EVERY_ON_GPU if u.is_cuda else 1
        done, worst = 0, math.inf
        while True:
            product()
            mass.mul_(u)
            error = total_size(mass - weights)
            if done % every == 0 or done >= options.max_iterations:
                worst = error.max().item()
                if worst <= options.tol or done >= options.max_iterations or not worst < math.inf:
                    break
            u.mul_(self.marginal.fill(weights / mass, 1.0).sqrt_())
            done += 1
        phi = log_ratio(u, self.marginal, shift)
        # The plan's total mass is off by the error; the dual value counts what is missing.
        dual = per_problem(self.epsilons, phi) * (2 * integrate(self.marginal, phi) - (mass.sum(-1) - 1))
        pulled = None
        if pull:
            fitted = u * self.marginal.fill(weights / mass)
            pulled = multiply(u.unsqueeze(-1) * self.points).mul_(fitted.unsqueeze(-1))
        potential = times(phi, self.epsilon) + 0.5 * self.squares
        return SelfTerm(phi, dual, self.epsilons, potential, error, worst <= options.tol, done, pulled)

    def _products(
        self, shift: Tensor | None, u: Tensor, mass: Tensor, budget: int
    ) -> tuple[Product, Callable[[Tensor], Tensor]]:
        """Products with the kernel: of u, into `mass`, and of any features; a block of rows at a time over budget."""
        row_bytes = u.numel() * u.element_size()
        if u.shape[-1] * row_bytes <= budget:
            kernel = self._kernel(shift, slice(None))
            return matvec(kernel, u, mass), kernel.matmul
        blocks = row_blocks(u.shape[-1], max(1, budget // row_bytes))

        def multiply(features: Tensor) -> Tensor:
            return torch.cat([self._kernel(shift, rows) @ features for rows in blocks], dim=-2)

        return lambda: mass.copy_(multiply(u.unsqueeze(-1)).squeeze(-1)), multiply

    def _kernel(self, shift: Tensor | None, rows: slice) -> Tensor:
        kernel = inner_products(self.points[..., rows, :], self.points, self.inverse, shift)
        if shift is not None:
            kernel.add_(shift[..., rows].unsqueeze(-1)).clamp_(min=EXPONENT_FLOOR)
        return kernel.exp_()
