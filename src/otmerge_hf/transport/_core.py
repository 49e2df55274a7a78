"""What comes in: a geometry. What goes out: its solution, value and closed-form gradients, in full precision.

By the envelope theorem the gradient of the optimal value holds the potentials fixed, so no iteration is ever
differentiated: with the plan P, row marginal a and barycentres Py, it is `a * x - P y` (Feydy et al. 2019, eq. 13).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import Marginal, check_number, name_bad_tensor, upcast
from ._scaling import Scaler, Solution, run
from ._streaming import Stream
from .geometry import Geometry, PointGeometry


_warned = False


@dataclass
class Options:
    """What of a problem is not a tensor, checked; see `sinkhorn`."""

    epsilon: float
    epsilon_scale: str
    tol: float
    max_iterations: int
    memory_budget: int

    def __post_init__(self) -> None:
        if self.epsilon_scale not in ("mean", "absolute"):
            raise ValueError(f"epsilon_scale must be 'mean' or 'absolute', got {self.epsilon_scale!r}")
        if int(self.max_iterations) < 1:
            raise ValueError(f"max_iterations must be >= 1, got {self.max_iterations}")
        self.epsilon, self.tol = check_number(self.epsilon, "epsilon"), check_number(self.tol, "tol")
        self.memory_budget = int(check_number(self.memory_budget, "memory_budget"))
        self.relative = self.epsilon_scale == "mean"


def solve_geometry(
    geometry: Geometry, potentials: Sequence[Tensor] | None, options: Options, start: Tensor | None = None
) -> Solution:
    """Solve in memory when the matrix fits the budget, else in blocks; from `potentials`, else the psi in `start`."""
    psi = start if potentials is None else _warm_start(geometry, potentials)
    if psi is not None:
        psi = geometry.b.fill(psi, -math.inf)  # so that no row takes a padded column for its largest entry
    a, b = geometry.a.weights, geometry.b.weights
    row_bytes = b.numel() * b.element_size()
    if a.shape[-1] * row_bytes <= options.memory_budget:
        scaler = Scaler(geometry, psi)
    else:
        scaler = Stream(geometry, psi, max(1, options.memory_budget // row_bytes))
    return run(scaler, options.tol, options.max_iterations)


def dual_of(geometry: Geometry, solution: Solution, offsets: list[float]) -> Tensor:
    """Dual value less the mean cost, plus `offsets`, (...): its error is of second order in the marginal error."""
    value = integrate(geometry.a, solution.phi).add_(integrate(geometry.b, solution.psi))
    return value.mul_(per_problem(geometry.epsilons, solution.phi)).add_(per_problem(offsets, solution.phi))


def integrate(marginal: Marginal, values: Tensor) -> Tensor:
    """Weighted sum over points, (..., N) -> (...)."""
    return torch.dot(marginal.weights, values) if values.dim() == 1 else (marginal.weights * values).sum(-1)


def per_problem(values: list[float], like: Tensor) -> float | Tensor:
    """One number per problem, to combine with (...): a float without batch (`like` is (N,)), else (B,)."""
    return values[0] if like.dim() == 1 else like.new_tensor(values)


def gradients(
    geometry: PointGeometry, solution: Solution, want_x: bool, want_y: bool, debiased: bool = False
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the value in the source (..., N, D) and target points (..., M, D): `a * x - P y` and mirrored.

    That in y is taken with the columns of the plan fitted by one more half-step, which costs next to nothing here.
    `debiased` leaves out `a * x` of the centred points, which the self term of a divergence takes away again.
    """
    grad_x = grad_y = None
    products, shift = solution.products, geometry.shift
    assert products is not None
    if want_x:
        grad_x = (shift if debiased else geometry.x + shift) * geometry.a.weights.unsqueeze(-1)
        products.pull(grad_x, geometry.y)
    if want_y:
        grad_y = (-shift if debiased else geometry.y - shift) * geometry.b.weights.unsqueeze(-1)
        products.push(grad_y, geometry.x)
    return grad_x, grad_y


def warn_unconverged(error: Tensor, tol: float, iterations: int) -> None:
    """Say once per process that a solve stopped early; the result's `converged` says it every time."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"Sinkhorn stopped after {iterations} iterations with a marginal error of {error.max().item():.2g} "
            f"(tol {tol:.2g}): value and gradient are approximate. Raise epsilon or max_iterations, or check "
            "result.converged. This is said once.",
            RuntimeWarning,
            stacklevel=4,
        )


def _warm_start(geometry: Geometry, potentials: Sequence[Tensor]) -> Tensor:
    """Check given potentials and turn g into psi; f follows from it in the first half-step."""
    if len(potentials) != 2:
        raise ValueError(f"potentials must be a pair (f, g), got {len(potentials)} tensors")
    g, expected = upcast(potentials[1].detach(), "potentials"), geometry.b.weights
    if g.shape != expected.shape:
        raise ValueError(f"potentials must hold g of shape {tuple(expected.shape)}, got {tuple(g.shape)}")
    name_bad_tensor(potentials=g)
    return geometry.to_psi(g.to(expected))
