"""What comes in: two clouds or a cost matrix. What goes out: a `TransportResult` whose value has a gradient."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ._autograd import attach, full_precision, wants_gradient
from ._checks import Marginal, check_pair, marginals, upcast
from ._core import Options, dual_of, gradients, solve_geometry, warn_unconverged
from ._scaling import Solution
from .geometry import CostGeometry, Geometry, PointGeometry
from .result import TransportResult, plan_of


EpsilonScale = Literal["mean", "absolute"]
Cost = Literal["sqeuclidean", "cosine"]

#: L1 marginal error at which a solve stops. Chosen so that on the benchmark's problems the value is within 1e-4
#: and the gradient within 1e-2 of POT in float64.
DEFAULT_TOL = 2e-3
DEFAULT_MAX_ITERATIONS = 2000
#: Bytes of N x M matrix that a solve may hold; beyond it rows are made in blocks, anew in every iteration.
DEFAULT_MEMORY_BUDGET = 2**30


def sinkhorn(
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
) -> TransportResult:
    r"""Solve entropic optimal transport between two clouds.

    $$ \min_{P \ge 0,\; P1 = a,\; P^\top 1 = b} \langle P, C\rangle + \varepsilon\,\mathrm{KL}(P \,|\, ab^\top),
       \qquad C_{ij} = \tfrac12|x_i - y_j|^2 $$

    Shapes: B batch (optional), N source points, M target points, D features. Works in float32 (float64 for float64
    input) whatever the surrounding autocast says; bfloat16 and float16 clouds are upcast.

    Args:
        x, y: Source points, (N, D) or (B, N, D), and target points, (M, D) or (B, M, D).
        epsilon: Entropic regularisation, > 0: a fraction of the mean cost, or with `epsilon_scale="absolute"` in
            units of the cost. The scale is held constant in the gradient.
        epsilon_scale: `"mean"` (of the cost under `a` and `b`, per batch item) or `"absolute"`.
        a, b: Weights, (N,) or (B, N) and (M,) or (B, M), non-negative, sum 1; zero is padding. Uniform when left out.
        x_mask, y_mask: True where a point is real, like `a` and `b`, boolean or 0/1. What padding holds is ignored.
        cost: `"sqeuclidean"`, half the squared distance, or `"cosine"`, one minus the cosine.
        tol: Stop when the L1 error of the marginals is at most this, in [0, 2].
        max_iterations: Give up after this many; `converged` is then False, and a warning is raised once per process.
        potentials: (f, g) of an earlier solve over the same points, for a warm start.
        memory_budget: Bytes that the N x M matrix may take, 1 GiB when left out. A larger problem is solved a block
            of rows at a time: O(budget) memory, about D/2 times the work per iteration.

    Returns:
        The value, differentiable in `x`, `y`, `a` and `b`, with plan, potentials and certificates. Its
        gradient in `a` is the potential f, which is defined up to a constant: use it along the simplex.

    Raises:
        ValueError: If an input is not finite, is empty, or does not fit the others; if `epsilon` is not > 0.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
        >>> sinkhorn(x, x.detach() + torch.tensor([0.0, 2.0]), epsilon=0.01).value.backward()
        >>> x.grad[:, 1]
        tensor([-1., -1.])

    Source: Cuturi 2013; Feydy et al. 2019, eq. 13 for the gradient; checked against POT's `ot.sinkhorn` and
    geomloss's `SamplesLoss`.
    """
    x, y, a, b, mu, nu = prepare(x, y, a, b, x_mask, y_mask, cost)
    options = Options(epsilon, epsilon_scale, tol, max_iterations, memory_budget)
    want_x, want_y = wants_gradient(x), wants_gradient(y)
    with full_precision(x.device):
        geometry = PointGeometry(x.detach(), y.detach(), mu, nu, options.epsilon, options.relative)
        solution = solve_geometry(geometry, potentials, options)
        grad_x, grad_y = gradients(geometry, solution, want_x, want_y)
    return _result(geometry, solution, options, (a, b), (x, grad_x), (y, grad_y))


def sinkhorn_from_cost(
    cost: Tensor,
    *,
    epsilon: float = 0.05,
    epsilon_scale: EpsilonScale = "mean",
    a: Tensor | None = None,
    b: Tensor | None = None,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    tol: float = DEFAULT_TOL,
    max_iterations: int = DEFAULT_MAX_ITERATIONS,
    potentials: Sequence[Tensor] | None = None,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> TransportResult:
    """Solve entropic optimal transport for a given cost matrix.

    The arguments not listed are those of [`sinkhorn`]; `memory_budget` is for the matrix made beside `cost`.

    Args:
        cost: Cost of moving source i to target j, (N, M) or (B, N, M), finite, in any unit; of mixed sign only with
            `epsilon_scale="absolute"`.
        epsilon: In units of `cost`, or of its mean.

    Returns:
        The value, differentiable in `cost` (its gradient is the plan), `a` and `b`.

    Raises:
        ValueError: As [`sinkhorn`].

    Example:
        >>> sinkhorn_from_cost(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.01).plan()
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]])

    Source: Cuturi 2013; checked against POT's `ot.sinkhorn`.
    """
    cost = upcast(cost, "cost")
    if cost.dim() not in (2, 3) or cost.numel() == 0:
        raise ValueError(f"cost must be (N, M) or (B, N, M) and not empty, got shape {tuple(cost.shape)}")
    options = Options(epsilon, epsilon_scale, tol, max_iterations, memory_budget)
    mu, nu = marginals(cost, cost.mT, a, b, x_mask, y_mask)
    want = wants_gradient(cost)
    with full_precision(cost.device):
        geometry = CostGeometry(cost.detach(), mu, nu, options.epsilon, options.relative)
        solution = solve_geometry(geometry, potentials, options)
        plan = plan_of(geometry, solution.phi, solution.psi) if want else None
    return _result(geometry, solution, options, (_expand(a, mu), _expand(b, nu)), (cost, plan))


def prepare(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, x_mask: Tensor | None, y_mask: Tensor | None, cost: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Marginal, Marginal]:
    """Check what came in; return clouds whose half squared distance is `cost`, weights on the tape, marginals."""
    x, y = check_pair(x, y)
    mu, nu = marginals(x, y, a, b, x_mask, y_mask)
    if cost == "cosine":
        x, y = _to_sphere(x, mu, "x"), _to_sphere(y, nu, "y")
    elif cost != "sqeuclidean":
        raise ValueError(f"cost must be 'sqeuclidean' or 'cosine', got {cost!r}")
    return x, y, _expand(a, mu), _expand(b, nu), mu, nu


def _expand(weights: Tensor | None, like: Marginal) -> Tensor | None:
    """Give weights shared by a batch its shape, on the tape, so that their gradient sums over the batch."""
    return None if weights is None else weights.to(like.weights).expand(like.weights.shape)


def _to_sphere(points: Tensor, marginal: Marginal, name: str) -> Tensor:
    """Normalise: on the unit sphere half the squared distance is one minus the cosine."""
    points = marginal.fill(points, 1.0)
    norms = torch.linalg.vector_norm(points, dim=-1, keepdim=True)
    if bool((norms == 0).any()):
        raise ValueError(f"{name} must have no zero vector when cost='cosine', got {int((norms == 0).sum())}")
    return points / norms


def _result(
    geometry: Geometry,
    solution: Solution,
    options: Options,
    weights: tuple[Tensor | None, Tensor | None],
    *pairs: tuple[Tensor | None, Tensor | None],
) -> TransportResult:
    """Attach gradients to the value, warn if need be, and pack."""
    solution.products, weighted = None, any(map(wants_gradient, weights))
    with full_precision(solution.phi.device):
        value = dual_of(geometry, solution, geometry.mean_costs)
        if weighted:
            pairs += tuple(zip(weights, geometry.to_potentials(solution.phi, solution.psi), strict=True))
    if not solution.converged:
        warn_unconverged(solution.marginal_error, options.tol, solution.iterations)
    return TransportResult(attach(value, *pairs), geometry, solution, options.tol)
