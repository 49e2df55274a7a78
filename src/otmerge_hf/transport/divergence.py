"""What comes in: two clouds. What goes out: their debiased Sinkhorn divergence, zero exactly when they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import check_number, check_pair, marginal
from ._core import (
    attach,
    dual_of,
    full_precision,
    gradient_x,
    gradient_y,
    solve_geometry,
    wants_gradient,
    warn_unconverged,
)
from ._symmetric import SelfProblem, SelfTerm
from .geometry import PointGeometry
from .sinkhorn import (
    DEFAULT_MAX_ITERATIONS,
    DEFAULT_MEMORY_BUDGET,
    DEFAULT_TOL,
    Cost,
    EpsilonScale,
    check_options,
    expand_weights,
    to_cost,
)


@dataclass(frozen=True)
class DivergenceResult:
    """A Sinkhorn divergence and its certificates. Shapes: B batch (optional), N source, M target points.

    Attributes:
        value: The divergence, () or (B,), in units of the cost; differentiable. Not negative, up to the tolerance.
        potentials: Potentials f (..., N), g (..., M) of the transport between the clouds, for a warm start.
        epsilon: Entropic regularisation that was used by all three terms, () or (B,), in units of the cost.
        marginal_error: Largest L1 marginal error of the three terms, () or (B,).
        converged: True where all three terms are within tolerance, () or (B,), boolean.
        iterations: Iterations of the transport between the clouds.
        y_self: The self term of ``y``, to hand to the next call when ``y`` and epsilon stay the same.
    """

    value: Tensor
    potentials: tuple[Tensor, Tensor]
    epsilon: Tensor
    marginal_error: Tensor
    converged: Tensor
    iterations: int
    y_self: SelfTerm


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    *,
    epsilon: float = 0.05,
    epsilon_scale: EpsilonScale = "mean",
    a: Tensor | None = None,
    b: Tensor | None = None,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    cost: Cost = "sqeuclidean",
    tol: float = DEFAULT_TOL,
    max_iterations: int = DEFAULT_MAX_ITERATIONS,
    potentials: Sequence[Tensor] | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    y_constant: bool | None = None,
    y_self: SelfTerm | None = None,
) -> DivergenceResult:
    r"""Compare two clouds by debiased entropic transport.

    .. math:: D(x, y) = OT_\varepsilon(x, y) - \tfrac12 OT_\varepsilon(x, x) - \tfrac12 OT_\varepsilon(y, y)

    One epsilon serves all three terms; relative epsilons are taken from the mean cost between x and y. The self
    terms use symmetric updates. Shapes as in :func:`sinkhorn`, whose arguments mean the same here.

    Args:
        x: Source points, (N, D) or (B, N, D).
        y: Target points, (M, D) or (B, M, D).
        epsilon: Entropic regularisation, relative or absolute.
        epsilon_scale: ``"mean"`` or ``"absolute"``.
        a: Source weights.
        b: Target weights.
        x_mask: True where a source point is real.
        y_mask: True where a target point is real.
        cost: ``"sqeuclidean"`` or ``"cosine"``.
        tol: L1 marginal error at which each of the three solves stops.
        max_iterations: Limit of each of the three solves.
        potentials: (f, g) of an earlier call over the same points, for a warm start.
        memory_budget: Bytes that one N x M matrix may take; at most one is held per term.
        y_constant: True skips every gradient of ``y``; left out, ``y`` is constant when it asks for no gradient.
        y_self: ``result.y_self`` of an earlier call with the same ``y`` and ``b``. Used as it is when its epsilon is
            this call's (to 1e-6, so give an absolute epsilon); solved again otherwise.

    Returns:
        The value, differentiable in ``x``, ``y``, ``a`` and ``b``, with its certificates.

    Raises:
        ValueError: As :func:`sinkhorn`; and if ``y_self`` is given while ``y`` or ``b`` wants a gradient.

    Example:
        >>> import torch
        >>> from otmerge_hf.transport import sinkhorn_divergence
        >>> x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        >>> shifted = sinkhorn_divergence(x, x + torch.tensor([0.0, 3.0, 0.0]))
        >>> round(shifted.value.item(), 2)
        4.5

    Source: Feydy et al. 2019, eq. 3; Genevay et al. 2018; checked against geomloss's ``SamplesLoss(debias=True)``.
    """
    x, y = check_pair(x, y)
    if y_constant:
        y, b = y.detach(), None if b is None else b.detach()
    options = check_options(epsilon_scale, tol, max_iterations, memory_budget)
    epsilon = check_number(epsilon, "epsilon")
    mu = marginal(a, x_mask, x, ("a", "x_mask"))
    nu = marginal(b, y_mask, y, ("b", "y_mask"))
    if y_self is not None and (wants_gradient(y) or wants_gradient(b)):
        raise ValueError("y_self must be left out when y or b requires a gradient, got one; or set y_constant=True")
    x, y = to_cost(x, y, mu, nu, cost)
    want_x, want_y = wants_gradient(x), wants_gradient(y)
    with full_precision(x.device):
        geometry = PointGeometry(x.detach(), y.detach(), mu, nu, epsilon, epsilon_scale == "mean")
        between = solve_geometry(geometry, potentials, options)
        # Gradients are taken while K is there; then it goes, before the next term's is made.
        grad_x = gradient_x(geometry, between) if want_x else None
        grad_y = gradient_y(geometry, between) if want_y else None
        between.release()

        x_self = _self_problem(geometry, 0).solve(options, pull=want_x)
        if y_self is None or not _same_epsilon(y_self, geometry):
            y_self = _self_problem(geometry, 1).solve(options, pull=want_y)
        f, g = geometry.to_potentials(between.phi, between.psi)
        # The mean costs of the three terms cancel but for the distance of the means: nothing large is subtracted.
        distance = 0.5 * geometry.shift.square().sum(dim=(-2, -1))
        value = distance + dual_of(geometry, between) - 0.5 * (x_self.dual + y_self.dual)
        if grad_x is not None and x_self.pulled is not None:
            grad_x.add_(x_self.pulled).sub_(mu.weights.unsqueeze(-1) * geometry.x)
        if grad_y is not None and y_self.pulled is not None:
            grad_y.add_(y_self.pulled).sub_(nu.weights.unsqueeze(-1) * geometry.y)
        error = torch.stack((between.marginal_error, x_self.marginal_error, y_self.marginal_error)).amax(0)
        converged = error <= options.tol
    value = attach(
        value,
        (x, grad_x),
        (y, grad_y),
        (expand_weights(a, f), lambda: f - x_self.potential),
        (expand_weights(b, g), lambda: g - y_self.potential),
    )
    if not (between.converged and x_self.converged and y_self.converged):
        warn_unconverged(error, options.tol, max(between.iterations, x_self.iterations, y_self.iterations))
    return DivergenceResult(value, (f, g), geometry.epsilon, error, converged, between.iterations, y_self)


def _self_problem(geometry: PointGeometry, side: int) -> SelfProblem:
    """The self term of x (side 0) or y (side 1), from clouds that the geometry has already centred."""
    points, half, weights = (
        (geometry.x, geometry.half_x, geometry.a) if side == 0 else (geometry.y, geometry.half_y, geometry.b)
    )
    return SelfProblem(points, half, weights, geometry.epsilon, geometry.inverse, geometry.self_spreads[side])


def _same_epsilon(term: SelfTerm, geometry: PointGeometry) -> bool:
    """Whether a cached self term belongs to this epsilon; a cached cloud of another shape is an error."""
    if term.phi.shape != geometry.half_y.shape:
        expected, got = tuple(geometry.half_y.shape), tuple(term.phi.shape)
        raise ValueError(f"y_self must belong to this y, whose points have shape {expected}, got {got}")
    return bool(torch.allclose(term.epsilon, geometry.epsilon, rtol=1e-6, atol=0.0))
