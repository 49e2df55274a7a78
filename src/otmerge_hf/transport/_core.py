"""What comes in: a geometry. What goes out: its solution, value and closed-form gradients, in full precision.

By the envelope theorem the gradient of the optimal value holds the potentials fixed, so no iteration is ever
differentiated: with the plan P, row marginal a and barycentres Py, it is ``a * x - P y`` (Feydy et al. 2019, eq. 13).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ._checks import name_bad_tensor, upcast
from ._scaling import Solution, solve
from ._streaming import solve_in_blocks
from .geometry import Geometry, PointGeometry


# A known gradient, or how to make it.
Gradient = Tensor | None | Callable[[], Tensor]

_RELAXATION = 1.5
_warned = False


@dataclass(frozen=True)
class Options:
    """When to stop and how much memory to use; see `sinkhorn`."""

    tol: float
    max_iterations: int
    memory_budget: int


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No gradient tape, no autocast, no TF32 or bf16 products: a cost error of 1e-3 is a tenth of epsilon."""
    precision = torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if precision != "highest":
            stack.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        yield


def solve_geometry(geometry: Geometry, potentials: Sequence[Tensor] | None, options: Options) -> Solution:
    """Solve in memory when the matrix fits the budget, in blocks of rows otherwise."""
    psi = None if potentials is None else _warm_start(geometry, potentials)
    a, b = geometry.a.weights, geometry.b.weights
    row_bytes = b.numel() * b.element_size()
    if a.shape[-1] * row_bytes <= options.memory_budget:
        return solve(geometry, psi, options.tol, options.max_iterations, _RELAXATION)
    block = max(1, options.memory_budget // row_bytes)
    return solve_in_blocks(geometry, psi, options.tol, options.max_iterations, _RELAXATION, block)


def dual_of(geometry: Geometry, solution: Solution) -> Tensor:
    """Dual value less the mean cost, (...): its error is of second order in the marginal error."""
    phi = (geometry.a.weights * solution.phi).sum(-1)
    psi = (geometry.b.weights * solution.psi).sum(-1)
    return geometry.epsilon * (phi + psi)


def gradient_x(geometry: PointGeometry, solution: Solution) -> Tensor:
    """Gradient of the value in the source points, (..., N, D)."""
    weights = geometry.a.weights.unsqueeze(-1)
    return weights * (geometry.x + geometry.shift) - solution.apply(geometry.y)


def gradient_y(geometry: PointGeometry, solution: Solution) -> Tensor:
    """Gradient of the value in the target points, (..., M, D), from the plan with its columns fitted."""
    b = geometry.b
    # The last half-step fitted the rows. One more, on the columns, costs a division here and makes this side exact.
    columns = solution.column_marginal
    if b.padding is not None:
        columns = columns.masked_fill(b.padding, 1.0)
    fit = (b.weights / columns).unsqueeze(-1)
    received = solution.apply_transposed(geometry.x).mul_(fit)
    return b.weights.unsqueeze(-1) * (geometry.y - geometry.shift) - received


def warn_unconverged(error: Tensor, tol: float, iterations: int) -> None:
    """Say once per process that a solve stopped early; the result's ``converged`` says it every time."""
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
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        """``tensors`` are ``count`` inputs followed by their ``count`` gradients."""
        ctx.count = count
        ctx.save_for_backward(*tensors[count:])
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Scale each saved gradient by the gradient of the value, item by item of a batch."""
        scaled = (known * grad.reshape(grad.shape + (1,) * (known.dim() - grad.dim())) for known in ctx.saved_tensors)
        return (None, None, *scaled, *(None,) * ctx.count)


def attach(value: Tensor, *pairs: tuple[Tensor | None, Gradient]) -> Tensor:
    """Give ``value`` the gradient, known or yet to be made, in each input of ``pairs`` that asks for one.

    Gradients are made now, while the solver's matrix is in memory, and nothing of size N x M is kept for backward.
    """
    wanted = [(tensor, make) for tensor, make in pairs if wants_gradient(tensor)]
    if not wanted:
        return value
    inputs = [tensor for tensor, _ in wanted]
    with full_precision(value.device):
        gradients = [make() if callable(make) else make for _, make in wanted]
    return _KnownGradient.apply(value, len(inputs), *inputs, *gradients)


def wants_gradient(tensor: Tensor | None) -> bool:
    """Whether a gradient in ``tensor`` is being recorded."""
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled()


def _warm_start(geometry: Geometry, potentials: Sequence[Tensor]) -> Tensor:
    """Check given potentials and turn g into psi; f follows from it in the first half-step."""
    if len(potentials) != 2:
        raise ValueError(f"potentials must be a pair (f, g), got {len(potentials)} tensors")
    g, expected = upcast(potentials[1].detach(), "potentials"), geometry.b.weights
    if g.shape != expected.shape:
        raise ValueError(f"potentials must hold g of shape {tuple(expected.shape)}, got {tuple(g.shape)}")
    name_bad_tensor(potentials=g)
    psi = geometry.to_psi(g.to(expected))
    # -inf, so that no row takes a padded column for its largest entry
    return psi if geometry.b.padding is None else psi.masked_fill(geometry.b.padding, -math.inf)
