r"""What comes in: two clouds, or a cost matrix. What goes out: logits for the solver, and the way back to cost units.

Solvers work on dimensionless *logits* $S_{ij}$ and *log-scalings* $\varphi, \psi$ with the plan
$P_{ij} = a_i b_j \exp(S_{ij} + \varphi_i + \psi_j)$.
"""

import math
from functools import cached_property

import torch
from torch import Tensor

from ._checks import Marginal, name_bad_tensor


#: A number per problem: a float for one problem, a tensor (B, 1, 1) for a batch. Multiplies anything of its shape.
Scale = float | Tensor

# Largest cloud, in coordinates, whose squares are summed in one go; float32 would round a longer sum too coarsely.
_FLAT_SUM = 2**15


class PointGeometry:
    r"""Clouds under $\tfrac12|x-y|^2$, each centred on its own mean.

    With $x = \tilde x + m_x$, $y = \tilde y + m_y$ and $\delta = m_x - m_y$ the cost splits as

    $$ \tfrac12|x-y|^2 = \tfrac12|\delta|^2 + \langle\tilde x - \tilde y, \delta\rangle
       + \tfrac12|\tilde x|^2 + \tfrac12|\tilde y|^2 - \langle\tilde x, \tilde y\rangle, $$

    and everything but the last term is a function of x plus a function of y, which the potentials absorb. So the
    logits are $\langle\tilde x, \tilde y\rangle/\varepsilon$: small numbers however far apart the clouds are.
    """

    def __init__(self, x: Tensor, y: Tensor, a: Marginal, b: Marginal, epsilon: float, relative: bool) -> None:
        self.a, self.b = a, b
        self.x, mean_x = _centre(x, a)  # (..., N, D), (..., 1, D)
        self.y, mean_y = _centre(y, b)
        self.shift = mean_x - mean_y  # (..., 1, D)
        spread_x, spread_y, distance = _to_host(
            _mean_square(self.x, a), _mean_square(self.y, b), torch.linalg.vector_norm(self.shift, dim=(-2, -1))
        )
        self.distances = [0.5 * d * d for d in distance]
        self.mean_costs = [0.5 * (p + q) + d for p, q, d in zip(spread_x, spread_y, self.distances, strict=True)]
        if not all(cost <= torch.finfo(x.dtype).max for cost in self.mean_costs):  # false for NaN, unlike with max()
            name_bad_tensor(x=a.fill(x), y=b.fill(y))
            raise ValueError(f"x and y must have a finite cost in {x.dtype}, got a mean cost of {self.mean_costs}")
        self.epsilons = _absolute(epsilon, relative, self.mean_costs, x.dtype)
        self.epsilon = _scale(self.epsilons, x)
        self.inverse = 1.0 / self.epsilon

    @cached_property
    def squares(self) -> tuple[Tensor, Tensor]:
        """Squared norms of the centred points, (..., N) and (..., M)."""
        return torch.linalg.vecdot(self.x, self.x), torch.linalg.vecdot(self.y, self.y)

    @cached_property
    def spreads(self) -> tuple[float, float, float]:
        """Bounds on the logits by Cauchy and Schwarz: between the clouds, within x, within y."""
        peaks = list(zip(*_to_host(*(squares.amax(-1) for squares in self.squares)), self.epsilons, strict=True))
        between = max(math.sqrt(p * q) / e for p, q, e in peaks)
        return between, max(p / e for p, _, e in peaks), max(q / e for _, q, e in peaks)

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return fresh `S[rows] + psi` that the caller may overwrite, (..., n, M)."""
        x = self.x if rows == slice(None) else self.x[..., rows, :]
        return inner_products(x, self.y, self.inverse, psi)

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Turn log-scalings into dual potentials f, g in units of the cost of the clouds as they came in."""
        own_x, own_y = self._own_costs()
        return times(phi, self.epsilon) + own_x, times(psi, self.epsilon) + own_y

    def to_psi(self, g: Tensor) -> Tensor:
        """Turn a potential g in units of the cost into the log-scaling psi."""
        return times(g - self._own_costs()[1], self.inverse)

    def _own_costs(self) -> tuple[Tensor, Tensor]:
        """The parts of the cost that depend on one cloud only, (..., N), (..., M), with half of |shift|^2 / 2 each."""
        apart, along = 0.25 * self.shift.square().sum(dim=-1), self.shift.mT
        squares_x, squares_y = self.squares
        own_x = 0.5 * squares_x + (self.x @ along).squeeze(-1) + apart
        return own_x, 0.5 * squares_y - (self.y @ along).squeeze(-1) + apart


class CostGeometry:
    """A cost matrix given by the caller, (..., N, M), in any unit; `epsilon` comes out in the same unit.

    Its methods are those of [`PointGeometry`].
    """

    def __init__(self, cost: Tensor, a: Marginal, b: Marginal, epsilon: float, relative: bool) -> None:
        self.a, self.b, self.cost = a, b, cost
        mean = (a.weights.unsqueeze(-2) @ cost @ b.weights.unsqueeze(-1)).squeeze(-1).squeeze(-1)
        facts = torch.stack((mean, cost.amax(dim=(-2, -1)), cost.amin(dim=(-2, -1))))
        self.mean_costs, highest, lowest = facts.reshape(3, -1).tolist()
        if not all(map(math.isfinite, self.mean_costs + highest + lowest)):
            name_bad_tensor(cost=cost)
            raise ValueError(f"cost must have a finite mean in {cost.dtype}, got {self.mean_costs}")
        if relative and min(self.mean_costs) < 0:
            raise ValueError(
                f"cost must have a mean >= 0 when epsilon_scale='mean', got {min(self.mean_costs):g}; "
                "give epsilon_scale='absolute' for costs of mixed sign"
            )
        self.epsilons = _absolute(epsilon, relative, self.mean_costs, cost.dtype)
        gaps = zip(self.mean_costs, highest, lowest, self.epsilons, strict=True)
        self.spreads = (max(max(high - centre, centre - low) / e for centre, high, low, e in gaps),)
        self.epsilon, self.centre = _scale(self.epsilons, cost), _scale(self.mean_costs, cost)

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        scores = (self.centre - self.cost[..., rows, :]).div_(self.epsilon)
        return scores if psi is None else scores.add_(psi.unsqueeze(-2))

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        half = 0.5 * (self.centre if isinstance(self.centre, float) else self.centre.squeeze(-1))
        return times(phi, self.epsilon) + half, times(psi, self.epsilon) + half

    def to_psi(self, g: Tensor) -> Tensor:
        return ((g.unsqueeze(-1) - 0.5 * self.centre) / self.epsilon).squeeze(-1)


Geometry = PointGeometry | CostGeometry


def inner_products(x: Tensor, y: Tensor, factor: Scale, offset: Tensor | None) -> Tensor:
    """Return `factor * x y^T + offset`, (..., N, M), for clouds (..., N, D), (..., M, D) and offset (..., M)."""
    y = y.mT
    if isinstance(factor, float):
        if offset is None:  # beta=0: the first argument is only a shape
            return torch.addmm(x.new_empty(1), x, y, beta=0, alpha=factor)
        return torch.addmm(offset, x, y, alpha=factor)
    scaled = x * factor
    return torch.bmm(scaled, y) if offset is None else torch.baddbmm(offset.unsqueeze(-2), scaled, y)


def times(values: Tensor, factor: Scale) -> Tensor:
    """Multiply (..., N) by the number of its problem."""
    return (values.unsqueeze(-1) * factor).squeeze(-1)


def _scale(values: list[float], like: Tensor) -> Scale:
    return values[0] if like.dim() == 2 else like.new_tensor(values)[:, None, None]


def _absolute(epsilon: float, relative: bool, mean_costs: list[float], dtype: torch.dtype) -> list[float]:
    """Epsilon of every problem in units of its cost. A constant cloud has no cost: the floor lets it through."""
    return [max(epsilon * cost, torch.finfo(dtype).tiny) if relative else epsilon for cost in mean_costs]


def _centre(points: Tensor, marginal: Marginal) -> tuple[Tensor, Tensor]:
    """Return centred points (padding at the centre) and their mean (..., 1, D)."""
    points = marginal.fill(points)
    mean = marginal.weights.unsqueeze(-2) @ points
    return marginal.fill(points - mean), mean


def _mean_square(points: Tensor, marginal: Marginal) -> Tensor:
    """Weighted mean of the squared norms of points, (..., N, D) -> (...)."""
    count, dim = points.shape[-2:]
    if marginal.uniform and count * dim <= _FLAT_SUM:
        flat = points.reshape(*points.shape[:-2], count * dim)
        total = torch.dot(flat, flat) if flat.dim() == 1 else torch.linalg.vector_norm(flat, dim=-1).square_()
        return total / count
    squares = torch.linalg.vecdot(points, points)
    return squares.mean(-1) if marginal.uniform else (marginal.weights * squares).sum(-1)


def _to_host(*facts: Tensor) -> list[list[float]]:
    """Numbers per problem, (...) each, as lists; one transfer brings all of them from a GPU."""
    if facts[0].dim() == 0 and not facts[0].is_cuda:
        return [[fact.item()] for fact in facts]
    return torch.stack(facts).reshape(len(facts), -1).tolist()
