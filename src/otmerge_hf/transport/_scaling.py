r"""What comes in: a geometry that fits in memory. What goes out: its solution by matrix scaling.

One matrix $K = \exp(S + \varphi + \psi)$ is built in place of the logits. An iteration is then two matrix-vector
products (Sinkhorn 1967), over-relaxed (Thibault et al. 2021), with no exponential inside the loop. When the scalings
u, v leave the range where float32 is safe, $\psi$ absorbs them and K is built again (Schmitzer 2019, algorithm 2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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


@dataclass
class Solution:
    """A plan in factored form: `P_ij = a_i b_j exp(S_ij + phi_i + psi_j)`. Shapes (..., N), (..., M), (...).

    The rows of the plan fit `a` exactly (the last half-step saw to it); `marginal_error` is what the columns miss.
    `products` makes products with the plan, and holds its matrix: set it to None to let go.
    """

    phi: Tensor
    psi: Tensor
    marginal_error: Tensor
    iterations: int
    converged: bool
    products: "Scaler | None"


def run(scaler: "Scaler", tol: float, max_iterations: int) -> Solution:
    """Scale until the L1 error of the column marginal is at most `tol` in every item, the rows being exact."""
    relaxation = Relaxation()
    on_host = scaler.u.dim() == 1 and not scaler.u.is_cuda
    look_every = _LOOK_EVERY_ON_GPU if scaler.u.is_cuda else 1
    done, look, watch, worst = 0, 0, 0, math.inf
    while True:
        error = scaler.measure()
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
        scaler.step(relaxation.next(worst if on_host else error))
        done += 1
    return scaler.solution(done, worst <= tol)


class Scaler:
    """The state of one solve: K in memory, scalings u (..., N) and v (..., M), and what K has absorbed."""

    tiny = 0.0  # smallest scaling that counts

    def __init__(self, geometry: Geometry, psi: Tensor | None) -> None:
        self.geometry, self.a, self.b = geometry, geometry.a, geometry.b
        self.u, self.v = torch.empty_like(self.a.weights), torch.empty_like(self.b.weights)
        self.rows, self.columns = torch.empty_like(self.u), torch.empty_like(self.v)  # K v, K^T u
        self.gap = torch.empty_like(self.v)  # what the column marginal v * K^T u misses
        self.negative_b = self.b.weights.neg()
        self.restart(psi)

    def restart(self, psi: Tensor | None) -> None:
        """Build K around `psi`; the row shift phi makes the largest entry of every row 1, None when none is needed."""
        # The old matrix goes before the new one is made, so that there is one N x M matrix at a time.
        for name in ("kernel", "by_row", "by_column"):
            vars(self).pop(name, None)
        kernel = self.kernel = self.geometry.logits(psi)
        self.psi, self.is_plan = psi, False
        self.shift: Tensor | None = None
        if psi is not None or _spread(self.geometry, kernel) > SAFE_SPREAD:
            shift = kernel.amax(dim=-1, keepdim=True)
            kernel.sub_(shift).clamp_(min=EXPONENT_FLOOR)
            self.shift = shift.squeeze(-1).neg_()
        kernel.exp_()
        self.by_row = matvec(kernel, self.v, self.rows)
        self.by_column = matvec(kernel, self.u, self.columns, transposed=True)
        self.v.copy_(self.b.weights)

    def sound(self) -> bool:
        """Whether K as it stands can carry these scalings. Without a shift nothing was clamped and it always can."""
        return self.shift is None or (self.u.max() * self.v.max()).item() < _ABSORB_ABOVE

    def absorb(self) -> Tensor:
        """Move the scaling of the columns into psi; return the error, which is not changed by it but for rounding."""
        self.restart(log_ratio(self.v.clamp(min=self.tiny), self.b, self.psi, -math.inf))
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
        return self.b.fill(self.b.weights / (self.v * self.columns))

    def solution(self, iterations: int, converged: bool) -> Solution:
        """Pack what the last [`measure`] left, K included."""
        phi = log_ratio(self.u.clamp(min=self.tiny), self.a, self.shift)
        psi = log_ratio(self.v.clamp(min=self.tiny), self.b, self.psi)
        return Solution(phi, psi, total_size(self.gap), iterations, converged, products=self)

    def pull(self, out: Tensor, features: Tensor) -> None:
        """Subtract plan times target features (..., M, E) from `out` (..., N, E)."""
        (out.addmm_ if out.dim() == 2 else out.baddbmm_)(self.plan(), features, alpha=-1.0)

    def push(self, out: Tensor, features: Tensor) -> None:
        """The same for the transposed plan, its columns fitted, and source features; `pull` goes first."""
        plan = self.plan().mul_(self.fit().unsqueeze(-2)).mT
        (out.addmm_ if out.dim() == 2 else out.baddbmm_)(plan, features, alpha=-1.0)

    def plan(self) -> Tensor:
        """Make K the plan, in its place."""
        if not self.is_plan:
            self.kernel.mul_(self.u.unsqueeze(-1)).mul_(self.v.unsqueeze(-2))
            self.is_plan = True
        return self.kernel


def stretched(factor: Tensor, omega: Number) -> Tensor:
    """Overwrite a factor (..., M) by its power `omega`, a float or (...), within the largest step allowed."""
    if isinstance(omega, float):
        factor.pow_(omega)
    else:  # on CPU a power with a tensor of exponents takes twice as long
        factor.log_().mul_(omega.unsqueeze(-1)).exp_()
    return factor.clamp_(1.0 / _LARGEST_FACTOR, _LARGEST_FACTOR)


def matvec(matrix: Tensor, vector: Tensor, out: Tensor, transposed: bool = False) -> Product:
    """Bind once, as a small solve's calls take as long to prepare as to run: puts `matrix @ vector` into `out`."""
    matrix = matrix.mT if transposed else matrix
    if matrix.dim() == 2:
        return partial(torch.mv, matrix, vector, out=out)
    if matrix.is_cuda or matrix[0].numel() < _SMALL_ITEM:
        # as rows, for which the batched product on CPU is some five times as fast as for columns
        return partial(torch.bmm, vector.unsqueeze(-2), matrix.mT, out=out.unsqueeze(-2))
    # A batched product misses the fast matrix-vector kernel; a loop over items hits it.
    items = [partial(torch.mv, item, v, out=o) for item, v, o in zip(matrix, vector, out, strict=True)]
    return lambda: [item() for item in items]


def _spread(geometry: Geometry, logits: Tensor) -> float:
    """Largest size of a logit: itself where that costs next to nothing, else the geometry's bound."""
    if logits.is_cuda or logits.numel() > _SMALL_KERNEL:
        return geometry.spreads[0]
    low, high = torch.aminmax(logits)
    return max(-low.item(), high.item())


def total_size(values: Tensor) -> Tensor:
    """Sum of absolute values, (..., N) -> (...)."""
    # for many short rows several times as fast as their norms
    return torch.linalg.vector_norm(values, 1) if values.dim() == 1 else values.abs().sum(-1)


def log_ratio(scaling: Tensor, marginal: Marginal, base: Tensor | None, padded: float = 0.0) -> Tensor:
    """Return log(scaling / weights) + base, and `padded` where the weight is zero."""
    logs = (scaling / marginal.weights).log_()
    return marginal.fill(logs if base is None else logs.add_(base), padded)
