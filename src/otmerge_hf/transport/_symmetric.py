r"""What comes in: one centred cloud. What goes out: its transport to itself, the self term of a divergence.

Both potentials are the same. So one vector is iterated by $\varphi \leftarrow \tfrac12(\varphi + T\varphi)$, which at
least halves the error each time, as the kernel is positive semi-definite (Feydy et al. 2019, section 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ._checks import Marginal
from ._core import Options, integrate, per_problem
from ._scaling import EXPONENT_FLOOR, SAFE_SPREAD, log_ratio, matvec, miss
from .geometry import Scale, inner_products


# On a GPU the host looks at the error once in so many iterations: every look waits for the device.
_LOOK_EVERY_ON_GPU = 4


@dataclass(frozen=True)
class SelfTerm:
    """A solved self term. Shapes: phi, potential (..., N), the rest (...).

    `dual` is the value less the mean cost; `potential` is f in units of the cost; `pulled`,
    (..., N, D), when a gradient asked for it, times `pulled_by`, (..., N), is the plan, its rows fitted, times the
    centred points.
    """

    phi: Tensor
    dual: Tensor
    epsilons: list[float]
    potential: Tensor
    marginal_error: Tensor
    converged: bool
    iterations: int
    pulled: Tensor | None = field(repr=False)
    pulled_by: Tensor = field(repr=False)


@dataclass(frozen=True)
class SelfProblem:
    """A centred cloud, its squared norms, weights, and the epsilon of the divergence it belongs to."""

    points: Tensor
    squares: Tensor
    marginal: Marginal
    epsilons: list[float]
    inverse: Scale
    spread: float

    def solve(self, options: Options, pull: bool) -> SelfTerm:
        """Iterate until the L1 error of the marginal is at most the tolerance; `pull` asks for `pulled`."""
        row_bytes = self.squares.numel() * self.squares.element_size()
        if self.squares.shape[-1] * row_bytes <= options.memory_budget:
            return self._solve_dense(options, pull)
        return self._solve_in_blocks(options, pull, max(1, options.memory_budget // row_bytes))

    def _solve_dense(self, options: Options, pull: bool) -> SelfTerm:
        # With phi = -|x|^2 / 2 epsilon the kernel is exp(-C / epsilon): ones on the diagonal, nothing above.
        shift = None if self.spread <= SAFE_SPREAD else self._norms()
        kernel = inner_products(self.points, self.points, self.inverse, shift)
        if shift is not None:
            kernel.add_(shift.unsqueeze(-1)).clamp_(min=EXPONENT_FLOOR)
        kernel.exp_()
        u = self.marginal.weights.clone()
        mass = torch.empty_like(u)
        product = matvec(kernel, u, mass)
        every = _LOOK_EVERY_ON_GPU if u.is_cuda else 1
        done, worst = 0, math.inf
        while True:
            product()
            mass.mul_(u)
            error = miss(mass, self.marginal)
            if done % every == 0 or done >= options.max_iterations:
                worst = error.max().item()
                if worst <= options.tol or done >= options.max_iterations or not worst < math.inf:
                    break
            u.mul_(self._ratio(mass).sqrt_())
            done += 1
        weights = u.unsqueeze(-1)
        return self._pack(
            log_ratio(u, self.marginal, shift, 0.0),
            mass,
            error,
            worst <= options.tol,
            done,
            kernel @ (weights * self.points) if pull else None,
            u,
        )

    def _solve_in_blocks(self, options: Options, pull: bool, block: int) -> SelfTerm:
        total = self.squares.shape[-1]
        blocks = [slice(start, min(start + block, total)) for start in range(0, total, block)]
        log_a = self.marginal.weights.log()
        phi = self._norms() if self.spread > SAFE_SPREAD else torch.zeros_like(self.squares)
        mass, done = torch.empty_like(phi), 0

        def rows_of_plan(rows: slice) -> Tensor:
            logits = inner_products(self.points[..., rows, :], self.points, self.inverse, phi + log_a)
            plan = logits.add_(phi[..., rows].unsqueeze(-1)).clamp_(min=EXPONENT_FLOOR).exp_()
            return plan.mul_(self.marginal.weights[..., rows].unsqueeze(-1))

        while True:
            for rows in blocks:
                mass[..., rows] = rows_of_plan(rows).sum(-1)
            error = miss(mass, self.marginal)
            worst = error.max().item()
            if worst <= options.tol or done >= options.max_iterations or not worst < math.inf:
                break
            phi = phi + 0.5 * self._ratio(mass).log_()
            done += 1
        if self.marginal.padding is not None:
            phi = phi.masked_fill(self.marginal.padding, 0.0)
        return self._pack(
            phi,
            mass,
            error,
            worst <= options.tol,
            done,
            torch.cat([rows_of_plan(rows) @ self.points for rows in blocks], dim=-2) if pull else None,
            torch.ones_like(mass),
        )

    def _norms(self) -> Tensor:
        return self.squares * (-0.5 * self._inverse())

    def _inverse(self) -> Scale:
        return self.inverse if isinstance(self.inverse, float) else self.inverse.squeeze(-1)

    def _ratio(self, mass: Tensor) -> Tensor:
        """Return wanted over present mass, 1 on padding."""
        ratio = self.marginal.weights / mass
        return ratio if self.marginal.padding is None else ratio.masked_fill_(self.marginal.padding, 1.0)

    def _pack(
        self,
        phi: Tensor,
        mass: Tensor,
        error: Tensor,
        converged: bool,
        done: int,
        pulled: Tensor | None,
        scaling: Tensor,
    ) -> SelfTerm:
        # The plan's total mass is off by the error; the dual value counts what is missing.
        excess = mass.sum(-1) - 1
        epsilon, inverse = per_problem(self.epsilons, phi), self._inverse()
        return SelfTerm(
            phi=phi,
            dual=epsilon * (2 * integrate(self.marginal, phi) - excess),
            epsilons=self.epsilons,
            potential=phi / inverse + 0.5 * self.squares,
            marginal_error=error,
            converged=converged,
            iterations=done,
            pulled=pulled,
            pulled_by=scaling * self._ratio(mass),
        )
