"""What comes in: two clouds. What goes out: their debiased Sinkhorn divergence, zero exactly when they agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ._autograd import attach, full_precision, wants_gradient
from ._core import Options, dual_of, gradients, solve_geometry, warn_unconverged
from ._scaling import SAFE_SPREAD
from ._symmetric import SelfProblem, SelfTerm
from .geometry import PointGeometry
from .result import Solved
from .sinkhorn import DEFAULT_MAX_ITERATIONS, DEFAULT_MEMORY_BUDGET, DEFAULT_TOL, Cost, EpsilonScale, prepare


@dataclass(frozen=True)
class DivergenceResult(Solved):
    """A Sinkhorn divergence and its certificates. `value` is not negative, up to the tolerance.

    `potentials` and `iterations` belong to the transport between the clouds; `marginal_error` (the largest one) and
    `converged` to all three terms. `y_self` is the self term of `y`, for the next call when `y` and epsilon stay the
    same.
    """

    _x_self: SelfTerm = field(repr=False)
    y_self: SelfTerm = field(repr=False)

    @property
    def marginal_error(self) -> Tensor:
        """Largest L1 marginal error of the three terms, () or (B,)."""
        terms = (self._solution, self._x_self, self.y_self)
        return torch.stack([term.marginal_error for term in terms]).amax(0)


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

    One epsilon serves all three terms; a relative epsilon is taken from the mean cost between x and y. The arguments
    not listed are those of [`sinkhorn`]; `tol`, `max_iterations`, `memory_budget` hold for each of the three solves.

    Args:
        y_constant: True skips every gradient of `y`; left out, `y` is constant when it asks for no gradient.
        y_self: `result.y_self` of an earlier call with the same `y` and `b`. Used as it is when its epsilon is
            this call's (to 1e-6, so give an absolute epsilon); solved again otherwise.

    Returns:
        The value, differentiable in `x`, `y`, `a` and `b`, with its certificates.

    Raises:
        ValueError: As [`sinkhorn`]; and if `y_self` is given while `y` or `b` wants a gradient.

    Example:
        >>> x = torch.eye(3)
        >>> round(sinkhorn_divergence(x, x + torch.tensor([0.0, 3.0, 0.0])).value.item(), 2)
        4.5

    Source: Feydy et al. 2019, eq. 3; Genevay et al. 2018; checked against geomloss's `SamplesLoss(debias=True)`.
    """
    x, y, a, b, mu, nu = prepare(x, y, a, b, x_mask, y_mask, cost)
    if y_constant:
        y, b = y.detach(), None
    options = Options(epsilon, epsilon_scale, tol, max_iterations, memory_budget)
    want_x, want_y, want_a, want_b = map(wants_gradient, (x, y, a, b))
    if y_self is not None and (want_y or want_b):
        raise ValueError("y_self must be left out when y or b requires a gradient, got one; or set y_constant=True")
    with full_precision(x.device):
        geometry = PointGeometry(x.detach(), y.detach(), mu, nu, options.epsilon, options.relative)
        if y_self is None or not _belongs(y_self, geometry):
            y_self = SelfProblem(geometry, 1).solve(options, pull=want_y)
        # Where clouds are close, or epsilon small, the self term's potential is nearly the one between them.
        start = y_self.phi if geometry.spreads[0] > SAFE_SPREAD else None
        between = solve_geometry(geometry, potentials, options, start)
        # Gradients are taken while K is there; then it goes, before the next term's is made.
        grad_x, grad_y = gradients(geometry, between, want_x, want_y, debiased=True)
        between.products = None

        x_self = SelfProblem(geometry, 0).solve(options, pull=want_x)
        # The mean costs of the three terms cancel but for the distance of the means: nothing large is subtracted.
        value = dual_of(geometry, between, geometry.distances)
        value.sub_(x_self.dual, alpha=0.5).sub_(y_self.dual, alpha=0.5)
        for grad, own in ((grad_x, x_self), (grad_y, y_self)):
            if grad is not None and own.pulled is not None:
                grad.add_(own.pulled)
        grad_a = grad_b = None
        if want_a or want_b:
            f, g = geometry.to_potentials(between.phi, between.psi)
            grad_a, grad_b = f - x_self.potential, g - y_self.potential
    value = attach(value, (x, grad_x), (y, grad_y), (a, grad_a), (b, grad_b))
    result = DivergenceResult(value, geometry, between, options.tol, x_self, replace(y_self, pulled=None))
    if not (between.converged and x_self.converged and y_self.converged):
        iterations = max(between.iterations, x_self.iterations, y_self.iterations)
        warn_unconverged(result.marginal_error, options.tol, iterations)
    return result


def _belongs(term: SelfTerm, geometry: PointGeometry) -> bool:
    """Whether a kept self term has this call's epsilon; one of a cloud of another shape is an error."""
    expected, got = tuple(geometry.b.weights.shape), tuple(term.phi.shape)
    if expected != got:
        raise ValueError(f"y_self must belong to this y, whose points have shape {expected}, got {got}")
    return all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(term.epsilons, geometry.epsilons, strict=True))
