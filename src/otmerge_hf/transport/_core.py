"""What comes in: a geometry. What goes out: its solution, value and closed-form gradients, in full precision.

By the envelope theorem the gradient of the optimal value holds the potentials fixed, so no iteration is ever
differentiated: with the plan P, row marginal a and barycentres Py, it is `a * x - P y` (Feydy et al. 2019, eq. 13).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._checks import Marginal, check_number, name_bad_tensor, upcast
from ._scaling import Scaler, Solution, run
from ._streaming import solve_in_blocks
from .geometry import Geometry, PointGeometry


_warned = False


@dataclass(frozen=True)
class Options:
    """What of the problem is not a tensor, when to stop and how much memory to use; see `sinkhorn`."""

    epsilon: float
    relative: bool
    tol: float
    max_iterations: int
    memory_budget: int


def check_options(
    epsilon: float, epsilon_scale: str, tol: float, max_iterations: int, memory_budget: float
) -> Options:
    """Check everything that is not a tensor."""
    if epsilon_scale not in ("mean", "absolute"):
        raise ValueError(f"epsilon_scale must be 'mean' or 'absolute', got {epsilon_scale!r}")
    if int(max_iterations) < 1:
        raise ValueError(f"max_iterations must be >= 1, got {max_iterations}")
    budget, tol = check_number(memory_budget, "memory_budget"), check_number(tol, "tol")
    return Options(check_number(epsilon, "epsilon"), epsilon_scale == "mean", tol, int(max_iterations), int(budget))


class full_precision:
    """No gradient tape, no autocast, no TF32 or bf16 products: a cost error of 1e-3 is a tenth of epsilon.

    A plain class: contextlib's machinery would take a tenth of a small solve.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device.type

    def __enter__(self) -> None:
        self.grad = torch.is_grad_enabled()
        self.autocast = torch.is_autocast_enabled(self.device)
        self.precision = torch.get_float32_matmul_precision()
        torch.set_grad_enabled(False)
        if self.autocast:
            torch.set_autocast_enabled(self.device, False)
        if self.precision != "highest":
            torch.set_float32_matmul_precision("highest")

    def __exit__(self, *error: object) -> None:
        torch.set_grad_enabled(self.grad)
        if self.autocast:
            torch.set_autocast_enabled(self.device, True)
        if self.precision != "highest":
            torch.set_float32_matmul_precision(self.precision)


def solve_geometry(
    geometry: Geometry, potentials: Sequence[Tensor] | None, options: Options, start: Tensor | None = None
) -> Solution:
    """Solve in memory when the matrix fits the budget, in blocks of rows otherwise.

    The caller's `potentials` start the solve, else the psi in `start`, else nothing.
    """
    psi = start if potentials is None else _warm_start(geometry, potentials)
    if psi is not None:
        psi = geometry.b.fill(psi, -math.inf)  # so that no row takes a padded column for its largest entry
    a, b = geometry.a.weights, geometry.b.weights
    row_bytes = b.numel() * b.element_size()
    if a.shape[-1] * row_bytes <= options.memory_budget:
        return run(Scaler(geometry, psi), options.tol, options.max_iterations)
    block = max(1, options.memory_budget // row_bytes)
    return solve_in_blocks(geometry, psi, options.tol, options.max_iterations, block)


def dual_of(geometry: Geometry, solution: Solution, offsets: list[float]) -> Tensor:
    """Dual value less the mean cost, plus `offsets`, (...): its error is of second order in the marginal error."""
    value = integrate(geometry.a, solution.phi).add_(integrate(geometry.b, solution.psi))
    return value.mul_(per_problem(geometry.epsilons, solution.phi)).add_(per_problem(offsets, solution.phi))


def integrate(marginal: Marginal, values: Tensor) -> Tensor:
    """Weighted sum over points, (..., N) -> (...)."""
    weights = marginal.weights
    return torch.dot(weights, values) if values.dim() == 1 else (weights * values).sum(-1)


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
    products = solution.products
    assert products is not None
    if want_x:
        grad_x = _weigh(geometry.a, geometry.x, geometry.shift, debiased)
        products.pull(grad_x, geometry.y)
    if want_y:
        grad_y = _weigh(geometry.b, geometry.y, -geometry.shift, debiased)
        products.push(grad_y, geometry.x)
    return grad_x, grad_y


def _weigh(marginal: Marginal, points: Tensor, shift: Tensor, only_shift: bool) -> Tensor:
    """Return `weights * (points + shift)`, or `weights * shift` for every point, (..., N, D)."""
    if only_shift:
        return shift * marginal.weights.unsqueeze(-1)
    if marginal.uniform:
        weight = 1.0 / points.shape[-2]
        return torch.add(shift * weight, points, alpha=weight)
    return (points + shift).mul_(marginal.weights.unsqueeze(-1))


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


class _KnownGradient(torch.autograd.Function):
    """A value whose gradients are already known: forward passes it on, backward scales them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a transport cost")
        shapes = (grad.shape + (1,) * (known.dim() - grad.dim()) for known in ctx.gradients)
        return (None, None, *(known * grad.reshape(shape) for known, shape in zip(ctx.gradients, shapes, strict=True)))


def refuse_second_derivative(what: str) -> None:
    """Raise RuntimeError in a backward pass with `create_graph=True`: a penalty on a known gradient would vanish."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{what} has no second derivative: expected a backward pass without create_graph=True.")


def attach(value: Tensor, *pairs: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Give `value` known gradients, by pairs of an input and its gradient; those of constants are left out."""
    known = [(tensor, gradient) for tensor, gradient in pairs if gradient is not None and wants_gradient(tensor)]
    if not known:
        return value
    inputs, gradients = zip(*known, strict=True)
    return _KnownGradient.apply(value, gradients, *inputs)


def wants_gradient(tensor: Tensor | None) -> bool:
    """Whether a gradient in `tensor` is being recorded."""
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled()


def _warm_start(geometry: Geometry, potentials: Sequence[Tensor]) -> Tensor:
    """Check given potentials and turn g into psi; f follows from it in the first half-step."""
    if len(potentials) != 2:
        raise ValueError(f"potentials must be a pair (f, g), got {len(potentials)} tensors")
    g, expected = upcast(potentials[1].detach(), "potentials"), geometry.b.weights
    if g.shape != expected.shape:
        raise ValueError(f"potentials must hold g of shape {tuple(expected.shape)}, got {tuple(g.shape)}")
    name_bad_tensor(potentials=g)
    return geometry.to_psi(g.to(expected))
