r"""What comes in: a geometry that fits in memory. What goes out: its solution by matrix scaling.

One matrix :math:`K = \exp(S + \varphi + \psi)` is built in place of the logits and then only read: an iteration is
two matrix-vector products and a few vector operations (Sinkhorn 1967), over-relaxed (Thibault et al. 2021). When
the scalings u, v leave the range where float32 is safe they are absorbed into :math:`\psi` and K is built again
(Schmitzer 2019, algorithm 2), so the kernel form keeps the robustness of the logarithmic one at a fraction of its
cost: no exponential is taken inside the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import Marginal
from ._relaxation import Relaxation
from .geometry import Geometry


# Smallest exponent taken. Near exp(-87) float32 turns denormal, where CPU arithmetic is some twenty times slower;
# the margin is for the weights, scalings and coordinates that K is multiplied with.
EXPONENT_FLOOR = -60.0
# Without any shift the logits may reach this far and exp, its sums and its products stay inside float32.
SAFE_SPREAD = 40.0
# Largest max(u) * max(v). Beyond it, entries of K lifted to exp(-60) could together weigh something in the plan.
_ABSORB_ABOVE = 1e10
# A finishing step lowers the error: it is worth trying this many tolerances away.
_TRY_WITHIN = 4.0

#: Multiply a vector by a fixed matrix, into the second argument.
Product = Callable[[Tensor, Tensor], object]


@dataclass
class Solution:
    """A plan in factored form: ``P_ij = a_i b_j exp(S_ij + phi_i + psi_j)``. Shapes (..., N), (..., M), (...).

    The rows of the plan fit ``a`` exactly (the last half-step saw to it); ``column_marginal`` is what the solve left.
    ``pull`` multiplies target features (..., M, E) by the plan, its rows scaled to sum 1; ``push`` multiplies source
    features (..., N, E) by the transposed plan, its columns scaled to sum 1. Padding gives garbage rows.
    """

    phi: Tensor
    psi: Tensor
    column_marginal: Tensor
    marginal_error: Tensor
    iterations: int
    converged: bool
    pull: Callable[[Tensor], Tensor]
    push: Callable[[Tensor], Tensor]

    def release(self) -> None:
        """Let go of the matrix; ``pull`` and ``push`` are gone afterwards."""
        del self.pull, self.push


def solve(geometry: Geometry, psi: Tensor | None, tol: float, max_iterations: int) -> Solution:
    """Scale until the L1 error of the column marginal is at most ``tol`` in every item, the rows being exact."""
    scaler = _Scaler(geometry, psi)
    # A check costs a few small operations and, on a GPU, a wait for the device.
    small = scaler.rows.shape[-1] * scaler.columns.shape[-1] < 2**16
    every = 8 if scaler.rows.is_cuda else (2 if small else 1)
    # From a shifted kernel the first steps can move far: one plain step, then a look, before relaxing.
    steps = 1 if scaler.shift is not None else every
    done, checks, previous, tried, relaxation = 0, 0, math.inf, False, Relaxation()
    # Careful: plain steps, absorbed one by one. Slow, and nothing can overflow; used after an overflow only.
    careful = False
    while True:
        steps = min(steps, max_iterations - done)
        watch = careful or checks & (checks + 1) == 0  # checks 1, 2, 4, 8, ...: scalings drift ever more slowly
        error, peak = scaler.advance(steps, relaxation.omega, watch)
        done, checks = done + steps, checks + 1
        if not error < math.inf:
            if careful or done >= max_iterations:
                final, _ = scaler.finish()
                break
            careful, steps = True, 1
            relaxation.restart()
            scaler.restart(psi)
            continue
        expected = error * min(1.0, error / previous) if previous < math.inf else error / _TRY_WITHIN
        if error <= tol or done >= max_iterations or (expected <= tol and not tried):
            tried = error > tol
            final, peak = scaler.finish()
            if done >= max_iterations or (final <= tol and peak < _ABSORB_ABOVE):
                break
        if careful or not peak < _ABSORB_ABOVE:
            scaler.absorb()
            relaxation.restart()
            steps, previous = 1, math.inf
            continue
        relaxation.update(error, steps)
        steps, previous = every, error
    return scaler.solution(done, final <= tol)


class _Scaler:
    """The state of one solve: K in memory, scalings u (..., N) and v (..., M), and what K has absorbed."""

    def __init__(self, geometry: Geometry, psi: Tensor | None) -> None:
        self.geometry, self.a, self.b = geometry, geometry.a, geometry.b
        self.rows, self.columns = torch.empty_like(self.a.weights), torch.empty_like(self.b.weights)
        self.u, self.v = torch.empty_like(self.rows), torch.empty_like(self.columns)
        self.matrix: list[Tensor] = []
        self.by_row: Product
        self.by_column: Product
        self.restart(psi)

    def restart(self, psi: Tensor | None) -> None:
        """Build K around ``psi`` and fit the rows."""
        # The old matrix goes before the new one is made, so that there is one N x M matrix at a time.
        if self.matrix:
            self.matrix.clear()
            del self.by_row, self.by_column
        self.psi = psi
        kernel, self.shift = build_kernel(self.geometry, psi)
        self.by_row, self.by_column = matvec(kernel), matvec(kernel, transposed=True)
        self.matrix.append(kernel)
        self.v.copy_(self.b.weights)
        self.fit_rows()

    def fit_rows(self) -> None:
        """Make the row marginal exact: u = a / (K v)."""
        self.by_row(self.v, self.rows)
        torch.div(self.a.weights, self.rows, out=self.u)

    def absorb(self) -> None:
        """Move the scaling of the columns into psi; the row shift of the new K takes the place of u."""
        self.restart(log_ratio(self.v, self.b, self.psi, -math.inf))

    def advance(self, steps: int, omega: float, watch: bool) -> tuple[float, float]:
        """Run ``steps`` iterations.

        Return the L1 error of both marginals, summed, as met in the last one, and max(u) * max(v), 0 unless watched.
        """
        for _ in range(steps - 1):
            self.by_column(self.u, self.columns)
            _relax(self.v, self.columns, self.b, omega)
            self.by_row(self.v, self.rows)
            _relax(self.u, self.rows, self.a, omega)
        self.by_column(self.u, self.columns)
        error_b = _relax_and_measure(self.v, self.columns, self.b, omega)
        self.by_row(self.v, self.rows)
        error_a = _relax_and_measure(self.u, self.rows, self.a, omega)
        return self._report(error_a + error_b, watch)

    def finish(self) -> tuple[float, float]:
        """Fit the rows, measure the columns; return the largest error of the batch and max(u) * max(v)."""
        self.fit_rows()
        self.by_column(self.u, self.columns)
        self.columns.mul_(self.v)
        self.error = miss(self.columns, self.b)
        return self._report(self.error, True)

    def _report(self, error: Tensor, watch: bool) -> tuple[float, float]:
        """Bring the numbers that decide what is next to the host, in one transfer."""
        worst = error if error.dim() == 0 else error.amax()
        if not watch:
            return worst.item(), 0.0
        numbers = torch.stack((worst, self.u.max(), self.v.max())).tolist()
        return numbers[0], numbers[1] * numbers[2]

    def solution(self, iterations: int, converged: bool) -> Solution:
        """Pack what :meth:`finish` left; the closures keep K alive for as long as the caller keeps them."""
        kernel, u, v, rows = self.matrix[0], self.u, self.v, self.rows
        received = self.columns / v  # K^T u
        return Solution(
            phi=log_ratio(u, self.a, self.shift, 0.0),
            psi=log_ratio(v, self.b, self.psi, 0.0),
            column_marginal=self.columns,
            marginal_error=self.error,
            iterations=iterations,
            converged=converged,
            pull=lambda features: (kernel @ (v.unsqueeze(-1) * features)).div_(rows.unsqueeze(-1)),
            push=lambda features: (kernel.mT @ (u.unsqueeze(-1) * features)).div_(received.unsqueeze(-1)),
        )


def matvec(matrix: Tensor, transposed: bool = False) -> Product:
    """Return ``product(vector, out)`` for one matrix (N, M) or a batch; vectors are (..., M) -> (..., N)."""
    if transposed:
        matrix = matrix.transpose(-2, -1)
    if matrix.dim() == 2:
        return lambda vector, out: torch.mv(matrix, vector, out=out)
    if matrix.is_cuda or matrix[0].numel() < 2**14:
        return lambda vector, out: torch.bmm(matrix, vector.unsqueeze(-1), out=out.unsqueeze(-1))
    # On CPU a batched product with one column misses the fast matrix-vector kernel; a loop over items hits it.
    items = matrix.unbind(0)

    def product(vector: Tensor, out: Tensor) -> None:
        for item, v, o in zip(items, vector.unbind(0), out.unbind(0), strict=True):
            torch.mv(item, v, out=o)

    return product


def build_kernel(geometry: Geometry, psi: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return K, (..., N, M), and the row shift phi, (..., N), that makes the largest entry of every row 1.

    With ``psi`` None and logits of small spread no shift is needed, and phi is None (zero).
    """
    kernel = geometry.logits(psi)
    if psi is None and geometry.spread <= SAFE_SPREAD:
        return kernel.exp_(), None
    shift = kernel.amax(dim=-1, keepdim=True)
    kernel.sub_(shift).clamp_(min=EXPONENT_FLOOR).exp_()
    return kernel, shift.squeeze(-1).neg_()


def miss(mass: Tensor, target: Marginal) -> Tensor:
    """L1 distance of a marginal from its target, (..., N) -> (...)."""
    return torch.linalg.vector_norm(mass - target.weights, 1, dim=-1)


def _relax(scaling: Tensor, product: Tensor, target: Marginal, omega: float) -> None:
    """Update ``scaling *= (target / marginal) ** omega`` from ``product`` (K v or K^T u), which is overwritten."""
    if omega == 1.0:
        torch.div(target.weights, product, out=scaling)
    else:
        _relax_marginal(scaling, product.mul_(scaling), target, omega)


def _relax_and_measure(scaling: Tensor, product: Tensor, target: Marginal, omega: float) -> Tensor:
    """Update like :func:`_relax`; return the L1 error of the marginal met on the way, (...)."""
    error = miss(product.mul_(scaling), target)
    _relax_marginal(scaling, product, target, omega)
    return error


def _relax_marginal(scaling: Tensor, met: Tensor, target: Marginal, omega: float) -> None:
    if target.padding is not None:
        met.masked_fill_(target.padding, 1.0)  # 0 / 1 stays 0, where 0 / 0 would spread
    torch.div(target.weights, met, out=met)
    if omega != 1.0:
        met.pow_(omega)
    scaling.mul_(met)


def log_ratio(scaling: Tensor, marginal: Marginal, base: Tensor | None, padded: float) -> Tensor:
    """Return log(scaling / weights) + base, and ``padded`` where the weight is zero."""
    logs = (scaling / marginal.weights).log_()
    if base is not None:
        logs.add_(base)
    return logs if marginal.padding is None else logs.masked_fill_(marginal.padding, padded)
