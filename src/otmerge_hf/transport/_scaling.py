r"""What comes in: a geometry that fits in memory. What goes out: its solution by matrix scaling.

One matrix $K = \exp(S + \varphi + \psi)$ is built in place of the logits. An iteration is then two matrix-vector
products (Sinkhorn 1967), over-relaxed (Thibault et al. 2021), with no exponential inside the loop. When the scalings
u, v leave the range where float32 is safe, $\psi$ absorbs them and K is built again (Schmitzer 2019, algorithm 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ._checks import Marginal
from ._relaxation import Number, Relaxation
from .geometry import Geometry


# Smallest exponent taken. Near exp(-87) float32 turns denormal, where CPU arithmetic is some twenty times slower;
# the margin is for the weights, scalings and coordinates that K is multiplied with.
EXPONENT_FLOOR = -60.0
# Without any shift the logits may reach this far and exp, its sums and its products stay inside float32.
SAFE_SPREAD = 40.0
# Largest max(u) * max(v). Beyond it, entries of K lifted to exp(-60) could together weigh something in the plan.
_ABSORB_ABOVE = 1e10
# A long step multiplies a scaling by at most this, so that between two looks nothing can overflow.
_LARGEST_FACTOR = 1e4
# Iterations between looks at the scalings' range. In so many there are two long steps at most.
_WATCH_EVERY = 6
# On a GPU the host looks at the error once in so many iterations: every look waits for the device.
_LOOK_EVERY_ON_GPU = 8

# Entries of one item of a batch below which a batched product beats a loop over items.
_SMALL_ITEM = 2**14
# Entries of all logits together below which a look at them costs next to nothing.
_SMALL_KERNEL = 2**20

#: Multiply a vector by a matrix, into its place.
Product = Callable[[], object]


class PlanProducts(Protocol):
    """Products with a plan that is not formed; what makes them may overwrite its matrix, so pull before you push."""

    def pull(self, out: Tensor, features: Tensor) -> None:
        """Subtract plan times target features (..., M, E) from `out` (..., N, E)."""

    def push(self, out: Tensor, features: Tensor) -> None:
        """Subtract from `out` (..., M, E) the transposed plan, its columns fitted, times features (..., N, E)."""


@dataclass
class Solution:
    """A plan in factored form: `P_ij = a_i b_j exp(S_ij + phi_i + psi_j)`. Shapes (..., N), (..., M), (...).

    The rows of the plan fit `a` exactly (the last half-step saw to it); `marginal_error` is what the columns miss.
    """

    phi: Tensor
    psi: Tensor
    marginal_error: Tensor
    iterations: int
    converged: bool
    products: PlanProducts | None

    def release(self) -> None:
        """Let go of the matrix."""
        self.products = None


def solve(geometry: Geometry, psi: Tensor | None, tol: float, max_iterations: int) -> Solution:
    """Scale until the L1 error of the column marginal is at most `tol` in every item, the rows being exact."""
    scaler = Scaler(geometry, psi)
    done, worst = run(scaler, tol, max_iterations)
    return scaler.solution(done, worst <= tol)


def run(scaler: Scaler, tol: float, max_iterations: int) -> tuple[int, float]:
    """Iterate; return how often, and the largest error that is left."""
    relaxation = Relaxation()
    measure, step, choose = scaler.measure, scaler.step, relaxation.next
    on_host = scaler.u.dim() == 1 and not scaler.u.is_cuda
    look_every = _LOOK_EVERY_ON_GPU if scaler.u.is_cuda else 1
    done, look, watch, worst = 0, 0, 0, math.inf
    while True:
        error = measure()
        if done >= look or done >= max_iterations:
            look = done + look_every
            worst = (error if error.dim() == 0 else error.amax()).item()
            if done >= max_iterations or math.isnan(worst):
                # The error must be that of the plan itself, not of one whose smallest entries were lifted.
                if not scaler.sound():
                    worst = scaler.absorb().amax().item()
                break
            if done >= watch or worst <= tol:
                # The scalings move most in the first steps; and the last look must have seen them.
                watch = done + (1 if done < 2 else _WATCH_EVERY)
                if not scaler.sound():
                    scaler.absorb()
                    relaxation.restart()
                elif worst <= tol:
                    break
        step(choose(worst if on_host else error))
        done += 1
    return done, worst


class Scaler:
    """The state of one solve: K in memory, scalings u (..., N) and v (..., M), and what K has absorbed."""

    def __init__(self, geometry: Geometry, psi: Tensor | None) -> None:
        self.geometry, self.a, self.b = geometry, geometry.a, geometry.b
        self.u, self.v = torch.empty_like(self.a.weights), torch.empty_like(self.b.weights)
        self.rows, self.columns = torch.empty_like(self.u), torch.empty_like(self.v)  # K v, K^T u
        self.gap = torch.empty_like(self.v)  # what the column marginal v * K^T u misses
        self.negative_b = self.b.weights.neg()
        self.matrix: list[Tensor] = []
        self.by_row: Product
        self.by_column: Product
        self.restart(psi)

    def restart(self, psi: Tensor | None) -> None:
        """Build K around `psi`."""
        # The old matrix goes before the new one is made, so that there is one N x M matrix at a time.
        if self.matrix:
            self.matrix.clear()
            del self.by_row, self.by_column
        self.psi = psi
        kernel, self.shift = build_kernel(self.geometry, psi)
        self.by_row = matvec(kernel, self.v, self.rows)
        self.by_column = matvec(kernel, self.u, self.columns, transposed=True)
        self.matrix.append(kernel)
        self.v.copy_(self.b.weights)

    def sound(self) -> bool:
        """Whether K as it stands can carry these scalings. Without a shift nothing was clamped and it always can."""
        return self.shift is None or (self.u.max() * self.v.max()).item() < _ABSORB_ABOVE

    def absorb(self) -> Tensor:
        """Move the scaling of the columns into psi; return the error, which is not changed by it but for rounding."""
        self.restart(log_ratio(self.v, self.b, self.psi, -math.inf))
        return self.measure()

    def measure(self) -> Tensor:
        """Fit the rows exactly; return the L1 error of the columns, (...)."""
        self.by_row()
        torch.div(self.a.weights, self.rows, out=self.u)
        self.by_column()
        return total_size(torch.addcmul(self.negative_b, self.v, self.columns, out=self.gap))

    def step(self, omega: Number | None) -> None:
        """Fit the columns, or go `omega`, a float or (...), times as far; after [`measure`]."""
        if omega is None:
            torch.div(self.b.weights, self.columns, out=self.v)
        else:
            self.v.mul_(stretched(self.fit(), omega))

    def fit(self) -> Tensor:
        """Wanted over present mass of the columns, (..., M), 0 on padding; after [`measure`]."""
        return ratio(self.b, self.v * self.columns)

    def solution(self, iterations: int, converged: bool) -> Solution:
        """Pack what the last [`measure`] left, K included."""
        return Solution(
            phi=log_ratio(self.u, self.a, self.shift, 0.0),
            psi=log_ratio(self.v, self.b, self.psi, 0.0),
            marginal_error=total_size(self.gap),
            iterations=iterations,
            converged=converged,
            products=_DenseProducts(self.matrix[0], self.u, self.v, self.fit),
        )


def stretched(factor: Tensor, omega: Number) -> Tensor:
    """Overwrite a factor (..., M) by its power `omega`, a float or (...), within the largest step allowed."""
    if isinstance(omega, float):
        factor.pow_(omega)
    else:  # on CPU a power with a tensor of exponents takes twice as long
        factor.log_().mul_(omega.unsqueeze(-1)).exp_()
    return factor.clamp_(1.0 / _LARGEST_FACTOR, _LARGEST_FACTOR)


class _DenseProducts:
    """Products with `diag(u) K diag(v)`, whose columns `fit()` would fit; takes the cheaper side to scale."""

    def __init__(self, kernel: Tensor, u: Tensor, v: Tensor, fit: Callable[[], Tensor]) -> None:
        self.kernel, self.u, self.v, self.fit = kernel, u.unsqueeze(-1), v.unsqueeze(-1), fit
        self.scaled = False

    def pull(self, out: Tensor, features: Tensor) -> None:
        if self._scale(features):
            _subtract_product(out, self.kernel, features)
        else:
            out.addcmul_(self.kernel @ (self.v * features), self.u, value=-1.0)

    def push(self, out: Tensor, features: Tensor) -> None:
        fit = self.fit().unsqueeze(-1)
        if self._scale(features):
            _subtract_product(out, self.kernel.mul_(fit.mT).mT, features)
        else:
            out.addcmul_(self.kernel.mT @ (self.u * features), self.v * fit, value=-1.0)

    def _scale(self, features: Tensor) -> bool:
        """Make K the plan where K is not larger than the features: no temporary, and fewer passes over memory."""
        if self.kernel.shape[-1] > 2 * features.shape[-1]:
            return False
        if not self.scaled:
            self.kernel.mul_(self.u).mul_(self.v.mT)
            self.scaled = True
        return True


def _subtract_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    if out.dim() == 2:
        out.addmm_(left, right, alpha=-1.0)
    else:
        out.baddbmm_(left, right, alpha=-1.0)


def matvec(matrix: Tensor, vector: Tensor, out: Tensor, transposed: bool = False) -> Product:
    """Return a function that puts `matrix @ vector` into `out`: (..., N, M) and (..., M) give (..., N).

    The three are bound once, for each call of a small solve takes as long to prepare as to run.
    """
    if transposed:
        matrix = matrix.mT
    if matrix.dim() == 2:
        return partial(torch.mv, matrix, vector, out=out)
    if matrix.is_cuda:
        return partial(torch.bmm, matrix, vector.unsqueeze(-1), out=out.unsqueeze(-1))
    if matrix[0].numel() < _SMALL_ITEM:
        # as rows, for which the batched product on CPU is some five times as fast as for columns
        return partial(torch.bmm, vector.unsqueeze(-2), matrix.mT, out=out.unsqueeze(-2))
    # A batched product misses the fast matrix-vector kernel; a loop over items hits it.
    items = [
        partial(torch.mv, item, v, out=o)
        for item, v, o in zip(matrix.unbind(0), vector.unbind(0), out.unbind(0), strict=True)
    ]

    def product() -> None:
        for item in items:
            item()

    return product


def build_kernel(geometry: Geometry, psi: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return K, (..., N, M), and the row shift phi, (..., N), that makes the largest entry of every row 1.

    With `psi` None and logits of small spread no shift is needed, and phi is None (zero).
    """
    kernel = geometry.logits(psi)
    if psi is None and _spread(geometry, kernel) <= SAFE_SPREAD:
        return kernel.exp_(), None
    shift = kernel.amax(dim=-1, keepdim=True)
    kernel.sub_(shift).clamp_(min=EXPONENT_FLOOR).exp_()
    return kernel, shift.squeeze(-1).neg_()


def _spread(geometry: Geometry, logits: Tensor) -> float:
    """Largest size of a logit: itself where that costs next to nothing, else the geometry's bound."""
    if logits.is_cuda or logits.numel() > _SMALL_KERNEL:
        return geometry.spread
    low, high = torch.aminmax(logits)
    return max(-low.item(), high.item())


def miss(mass: Tensor, target: Marginal) -> Tensor:
    """L1 distance of a marginal from its target, (..., N) -> (...)."""
    return total_size(mass - target.weights)


def total_size(values: Tensor) -> Tensor:
    """Sum of absolute values, (..., N) -> (...)."""
    if values.dim() == 1:
        return torch.linalg.vector_norm(values, 1)
    return values.abs().sum(-1)  # many short rows: several times as fast as their norms


def ratio(target: Marginal, mass: Tensor) -> Tensor:
    """Return wanted over present mass, (..., N), 0 on padding."""
    wanted = target.weights / mass
    return wanted if target.padding is None else wanted.masked_fill_(target.padding, 0.0)


def log_ratio(scaling: Tensor, marginal: Marginal, base: Tensor | None, padded: float) -> Tensor:
    """Return log(scaling / weights) + base, and `padded` where the weight is zero."""
    logs = (scaling / marginal.weights).log_()
    if base is not None:
        logs.add_(base)
    return logs if marginal.padding is None else logs.masked_fill_(marginal.padding, padded)
