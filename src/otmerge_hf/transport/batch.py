"""What comes in: many tiny problems, as tokens of questions and patches of images. What goes out: all their plans."""

from dataclasses import dataclass, field

from torch import Tensor

from ._autograd import full_precision, wants_gradient
from ._checks import check_number
from ._core import Options, dual_of, warn_unconverged
from ._pull import Pulled, SolvedBatch
from ._relaxed import RelaxedScaler
from ._scaling import Scaler, run
from .geometry import PointGeometry
from .result import TransportResult
from .sinkhorn import DEFAULT_MAX_ITERATIONS, DEFAULT_MEMORY_BUDGET, DEFAULT_TOL, Cost, EpsilonScale, prepare


@dataclass(frozen=True)
class BatchTransportResult(TransportResult):
    """The plans of many problems: a `TransportResult` whose values (B,) and plans (B, N, M) carry gradients.

    Shapes: B problems, N source points, M target points. With slack, `marginal_error` is what the column marginal
    would still change by if it were fitted once more, as a share of the mass that is moved. After a fixed number of
    iterations `converged` refers to the default tolerance.

    Example:
        >>> import torch
        >>> result = sinkhorn_batch(torch.eye(3).expand(4, 3, 3), torch.eye(3).expand(4, 3, 3) + 1.0)
        >>> result.value.shape, result.plan().shape
        (torch.Size([4]), torch.Size([4, 3, 3]))
    """

    _solved: SolvedBatch = field(repr=False)
    _clouds: tuple[Tensor, Tensor] = field(repr=False)

    def plan(self) -> Tensor:
        """Return the plans, (B, N, M), differentiable in the clouds; rows and columns of padding are zero.

        The gradient is that of the exact solution: it takes the marginals as met, so solve to a small tolerance
        where it matters. `epsilon` and `slack`, in units of the cost, count as constants.
        """
        return Pulled.apply(self._solved.plan, self._solved.pull_plan, *self._clouds)


def sinkhorn_batch(
    x: Tensor,
    y: Tensor,
    *,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
    epsilon: float = 0.05,
    epsilon_scale: EpsilonScale = "mean",
    slack: float | None = None,
    cost: Cost = "sqeuclidean",
    tol: float | None = DEFAULT_TOL,
    max_iterations: int = DEFAULT_MAX_ITERATIONS,
) -> BatchTransportResult:
    r"""Solve many small entropic transport problems at once, with plans that can be trained through.

    $$ \min_{P \ge 0} \langle P, C\rangle + \varepsilon\,\mathrm{KL}(P \,|\, ab^\top)
       + \rho\,\mathrm{KL}(P1 \,|\, a) + \rho\,\mathrm{KL}(P^\top 1 \,|\, b),
       \quad C_{ij} = \tfrac12|x_i - y_j|^2 $$

    with $\mathrm{KL}(p \,|\, q) = \sum p \log(p/q) - p + q$, and $a$, $b$ uniform over the real points of each cloud.
    Without `slack` the marginals are exact ($\rho = \infty$) and the problem is that of [`sinkhorn`], which has the
    arguments not listed. With it a point far from every other sends and receives less mass, down to none.

    Shapes: B problems, N source points, M target points, D features. All plans stay in memory: B * N * M floats.

    Args:
        x, y: Source points, (B, N, D), and target points, (B, M, D).
        slack: Price $\rho$ of a unit of mass that stays behind or arrives unsent, > 0, in the unit of `epsilon`. A
            large one gives nearly exact marginals, one near `epsilon` leaves all but the closest points alone; None
            gives exact marginals.
        tol: Stop when the marginal error of the worst problem is at most this. None: run exactly `max_iterations`, so
            that no problem's plan depends on the others in the batch.

    Returns:
        Values (B,) and plans (B, N, M), both differentiable in `x` and `y`, with potentials and certificates.

    Raises:
        ValueError: As [`sinkhorn`]; if a mask hides a whole cloud, or `slack` is not > 0.

    Example:
        >>> import torch
        >>> words = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]])
        >>> patches = torch.tensor([[[0.0, 0.1], [1.0, 0.1]]])
        >>> plan = sinkhorn_batch(words, patches, epsilon=0.1, slack=1.0, epsilon_scale="absolute").plan()
        >>> [round(sent, 2) for sent in plan.sum(-1)[0].tolist()]  # the third word stays behind
        [0.39, 0.39, 0.0]

    Source: Cuturi 2013; Chizat et al. 2018 for the slack; Luise et al. 2018 for the plan's gradient; checked against
    POT's `ot.sinkhorn` and `ot.unbalanced.sinkhorn_unbalanced`.
    """
    x, y, _, _, mu, nu = prepare(x, y, None, None, x_mask, y_mask, cost)
    if x.dim() != 3:
        raise ValueError(f"x must be (B, N, D), got shape {tuple(x.shape)}")
    limit = DEFAULT_TOL if tol is None else tol
    options = Options(epsilon, epsilon_scale, limit, max_iterations, DEFAULT_MEMORY_BUDGET)
    tau = 1.0 if slack is None else check_number(slack, "slack") / (slack + options.epsilon)
    recorded = wants_gradient(x) or wants_gradient(y)
    with full_precision(x.device):
        geometry = PointGeometry(x.detach(), y.detach(), mu, nu, options.epsilon, options.relative)
        scaler = Scaler(geometry, None) if slack is None else RelaxedScaler(geometry, tau)
        solution = run(scaler, 0.0 if tol is None else options.tol, options.max_iterations)
        solution.products = None
        if isinstance(scaler, RelaxedScaler):
            value = scaler.dual(solution.phi)
        else:
            value = dual_of(geometry, solution, geometry.mean_costs)
        moved = geometry.x + geometry.shift if recorded else geometry.x
        assert isinstance(geometry.epsilon, Tensor)
        fit = scaler.fit()
        rows, columns = scaler.u * scaler.rows, scaler.v * scaler.columns * fit
        solved = SolvedBatch(moved, geometry.y, scaler.plan(), fit, rows, columns, geometry.epsilon, tau)
    if tol is not None and not solution.converged:
        warn_unconverged(solution.marginal_error, options.tol, solution.iterations)
    value = Pulled.apply(value, solved.pull_value, x, y)
    return BatchTransportResult(value, geometry, solution, options.tol, solved, (x, y))
