"""What comes in: two clouds. What goes out: their debiased Sinkhorn divergence, zero exactly when they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ._checks import check_number, check_pair, marginal
from ._core import (
    attach,
    dual_of,
    full_precision,
    gradients,
    per_problem,
    solve_geometry,
    wants_gradient,
    warn_unconverged,
)
from ._scaling import SAFE_SPREAD, Solution
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
        y_self: The self term of `y`, to hand to the next call when `y` and epsilon stay the same.
    """

    value: Tensor
    _x_self: SelfTerm = field(repr=False)
    y_self: SelfTerm = field(repr=False)
    _geometry: PointGeometry = field(repr=False)
    _between: Solution = field(repr=False)
    _tol: float = field(repr=False)

    @cached_property
    def potentials(self) -> tuple[Tensor, Tensor]:
        """Dual potentials of the transport between the clouds, in units of the cost."""
        with torch.no_grad():
            return self._geometry.to_potentials(self._between.phi, self._between.psi)

    @cached_property
    def epsilon(self) -> Tensor:
        """Epsilon in units of the cost."""
        return self.value.detach().new_tensor(self._geometry.epsilons).reshape(self.value.shape)

    @cached_property
    def marginal_error(self) -> Tensor:
        """Largest L1 marginal error of the three terms."""
        terms = (self._between, self._x_self, self.y_self)
        return torch.stack([term.marginal_error for term in terms]).amax(0)

    @cached_property
    def converged(self) -> Tensor:
        """Whether all three terms are within tolerance."""
        return self.marginal_error <= self._tol

    @property
    def iterations(self) -> int:
        """Iterations of the transport between the clouds."""
        return self._between.iterations


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

    $$ D(x, y) = OT_\varepsilon(x, y) - \tfrac12 OT_\varepsilon(x, x) - \tfrac12 OT_\varepsilon(y, y) $$

    One epsilon serves all three terms; relative epsilons are taken from the mean cost between x and y. The self
    terms use symmetric updates. Shapes as in [`sinkhorn`], whose arguments mean the same here.

    Args:
        x: Source points, (N, D) or (B, N, D).
        y: Target points, (M, D) or (B, M, D).
        epsilon: Entropic regularisation, relative or absolute.
        epsilon_scale: `"mean"` or `"absolute"`.
        a: Source weights.
        b: Target weights.
        x_mask: True where a source point is real.
        y_mask: True where a target point is real.
        cost: `"sqeuclidean"` or `"cosine"`.
        tol: L1 marginal error at which each of the three solves stops.
        max_iterations: Limit of each of the three solves.
        potentials: (f, g) of an earlier call over the same points, for a warm start.
        memory_budget: Bytes that one N x M matrix may take; at most one is held per term.
        y_constant: True skips every gradient of `y`; left out, `y` is constant when it asks for no gradient.
        y_self: `result.y_self` of an earlier call with the same `y` and `b`. Used as it is when its epsilon is
            this call's (to 1e-6, so give an absolute epsilon); solved again otherwise.

    Returns:
        The value, differentiable in `x`, `y`, `a` and `b`, with its certificates.

    Raises:
        ValueError: As [`sinkhorn`]; and if `y_self` is given while `y` or `b` wants a gradient.

    Example:
        >>> import torch
        >>> from otmerge_hf.transport import sinkhorn_divergence
        >>> x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
        >>> shifted = sinkhorn_divergence(x, x + torch.tensor([0.0, 3.0, 0.0]))
        >>> round(shifted.value.item(), 2)
        4.5

    Source: Feydy et al. 2019, eq. 3; Genevay et al. 2018; checked against geomloss's `SamplesLoss(debias=True)`.
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
    a, b = expand_weights(a, mu), expand_weights(b, nu)
    want_x, want_y, want_a, want_b = map(wants_gradient, (x, y, a, b))
    with full_precision(x.device):
        geometry = PointGeometry(x.detach(), y.detach(), mu, nu, epsilon, epsilon_scale == "mean")
        if y_self is None or not _belongs(y_self, geometry):
            y_self = _self_problem(geometry, 1).solve(options, pull=want_y)
        # Where clouds are close, or epsilon small, the self term's potential is nearly the one between them.
        start = y_self.phi if geometry.spread > SAFE_SPREAD else None
        between = solve_geometry(geometry, potentials, options, start)
        # Gradients are taken while K is there; then it goes, before the next term's is made.
        grad_x, grad_y = gradients(geometry, between, want_x, want_y, debiased=True)
        between.release()

        x_self = _self_problem(geometry, 0).solve(options, pull=want_x)
        # The mean costs of the three terms cancel but for the distance of the means: nothing large is subtracted.
        value = dual_of(geometry, between).add_(per_problem(geometry.distances, between.phi))
        value.sub_(x_self.dual, alpha=0.5).sub_(y_self.dual, alpha=0.5)
        if grad_x is not None and x_self.pulled is not None:
            grad_x.addcmul_(x_self.pulled, x_self.pulled_by.unsqueeze(-1))
        if grad_y is not None and y_self.pulled is not None:
            grad_y.addcmul_(y_self.pulled, y_self.pulled_by.unsqueeze(-1))
        grad_a = grad_b = None
        if want_a or want_b:
            f, g = geometry.to_potentials(between.phi, between.psi)
            grad_a = f - x_self.potential if want_a else None
            grad_b = g - y_self.potential if want_b else None
    y_self = replace(y_self, pulled=None)
    result = DivergenceResult(
        attach(value, (x, grad_x), (y, grad_y), (a, grad_a), (b, grad_b)),
        x_self,
        y_self,
        geometry,
        between,
        options.tol,
    )
    if not (between.converged and x_self.converged and y_self.converged):
        iterations = max(between.iterations, x_self.iterations, y_self.iterations)
        warn_unconverged(result.marginal_error, options.tol, iterations)
    return result


def _self_problem(geometry: PointGeometry, side: int) -> SelfProblem:
    """The self term of x (side 0) or y (side 1), from clouds that the geometry has already centred."""
    cloud = (geometry.x, geometry.squares_x, geometry.a), (geometry.y, geometry.squares_y, geometry.b)
    return SelfProblem(*cloud[side], geometry.epsilons, geometry.inverse, geometry.self_spreads[side])


def _belongs(term: SelfTerm, geometry: PointGeometry) -> bool:
    """Whether a kept self term has this call's epsilon; one of a cloud of another shape is an error."""
    if term.phi.shape != geometry.squares_y.shape:
        expected, got = tuple(geometry.squares_y.shape), tuple(term.phi.shape)
        raise ValueError(f"y_self must belong to this y, whose points have shape {expected}, got {got}")
    pairs = zip(term.epsilons, geometry.epsilons, strict=True)
    return all(math.isclose(kept, new, rel_tol=1e-6) for kept, new in pairs)
