r"""What comes in: two clouds, or a cost matrix. What goes out: logits for the solver, and the way back to cost units.

The solvers never see a cost. They work on dimensionless *logits* :math:`S_{ij}` and *log-scalings*
:math:`\varphi, \psi` with the plan :math:`P_{ij} = a_i b_j \exp(S_{ij} + \varphi_i + \psi_j)`; a geometry knows how
S comes from its inputs (whole, or a block of rows) and what :math:`\varphi, \psi` mean in units of the cost.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ._checks import Marginal, name_bad_tensor


#: A number per problem: a float for one problem, a tensor (B, 1, 1) for a batch. Multiplies anything of its shape.
Scale = float | Tensor

# Largest cloud, in coordinates, whose squares are summed in one go; float32 would round a longer sum too coarsely.
_FLAT_SUM = 2**15


class Geometry(Protocol):
    """What a solver and a result need to know about the problem. Shapes: (..., N, M), batch optional."""

    a: Marginal
    b: Marginal
    epsilons: list[float]
    mean_costs: list[float]

    @property
    def spread(self) -> float:
        """Bound on the size of the logits."""
        ...

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return fresh ``S[rows] + psi`` that the caller may overwrite, (..., n, M)."""
        ...

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Turn log-scalings into dual potentials f, g in units of the cost."""
        ...

    def to_psi(self, g: Tensor) -> Tensor:
        """Turn a potential g in units of the cost into the log-scaling psi."""
        ...


class PointGeometry:
    r"""Clouds under :math:`\tfrac12|x-y|^2`, each centred on its own mean.

    With :math:`x = \tilde x + m_x`, :math:`y = \tilde y + m_y` and :math:`\delta = m_x - m_y` the cost splits as

    .. math:: \tfrac12|x-y|^2 = \tfrac12|\delta|^2 + \langle\tilde x - \tilde y, \delta\rangle
              + \tfrac12|\tilde x|^2 + \tfrac12|\tilde y|^2 - \langle\tilde x, \tilde y\rangle,

    and everything but the last term is a function of x plus a function of y, which the potentials absorb. So the
    logits are :math:`\langle\tilde x, \tilde y\rangle/\varepsilon`: small numbers however far apart the clouds are.
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
        largest = torch.finfo(x.dtype).max
        if not all(cost <= largest for cost in self.mean_costs):  # false for NaN, which max() may skip
            name_bad_tensor(x=_hide(x, a), y=_hide(y, b))
            raise ValueError(f"x and y must have a finite cost in {x.dtype}, got a mean cost of {self.mean_costs}")
        self.epsilons = absolute(epsilon, relative, self.mean_costs, x.dtype)
        self.epsilon = scale(self.epsilons, x)
        self.inverse = 1.0 / self.epsilon

    @cached_property
    def squares_x(self) -> Tensor:
        """Squared norms of the centred source points, (..., N)."""
        return torch.linalg.vecdot(self.x, self.x)

    @cached_property
    def squares_y(self) -> Tensor:
        """Squared norms of the centred target points, (..., M)."""
        return torch.linalg.vecdot(self.y, self.y)

    @cached_property
    def _peaks(self) -> list[list[float]]:
        return _to_host(self.squares_x.amax(-1), self.squares_y.amax(-1))

    @cached_property
    def spread(self) -> float:
        """Bound on the logits by Cauchy and Schwarz; the solver may look at the logits themselves instead."""
        peaks_x, peaks_y = self._peaks
        return _reach(peaks_x, peaks_y, self.epsilons)

    @cached_property
    def self_spreads(self) -> tuple[float, float]:
        """The same bound for either cloud against itself."""
        peaks_x, peaks_y = self._peaks
        return _reach(peaks_x, peaks_x, self.epsilons), _reach(peaks_y, peaks_y, self.epsilons)

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return fresh ``S[rows] + psi``, (..., n, M)."""
        x = self.x if rows == slice(None) else self.x[..., rows, :]
        return inner_products(x, self.y, self.inverse, psi)

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the centring: f, g in units of the cost of the clouds as they came in."""
        f = (phi.unsqueeze(-1) * self.epsilon).squeeze(-1) + self._apart(self.x, self.squares_x, 1.0)
        g = (psi.unsqueeze(-1) * self.epsilon).squeeze(-1) + self._apart(self.y, self.squares_y, -1.0)
        return f, g

    def to_psi(self, g: Tensor) -> Tensor:
        """Invert :meth:`to_potentials` for g."""
        return ((g - self._apart(self.y, self.squares_y, -1.0)).unsqueeze(-1) * self.inverse).squeeze(-1)

    def _apart(self, points: Tensor, squares: Tensor, sign: float) -> Tensor:
        """The part of the cost that depends on one cloud only, (..., N); half of |shift|^2 / 2 to either side."""
        along = (points @ self.shift.transpose(-2, -1)).squeeze(-1)
        return 0.5 * squares + sign * along + 0.25 * self.shift.square().sum(dim=-1)


class CostGeometry:
    """A cost matrix given by the caller, (..., N, M), in any unit; ``epsilon`` comes out in the same unit."""

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
        self.epsilons = absolute(epsilon, relative, self.mean_costs, cost.dtype)
        gaps = zip(self.mean_costs, highest, lowest, self.epsilons, strict=True)
        self.spread = max(max(high - centre, centre - low) / e for centre, high, low, e in gaps)
        self.epsilon, self.centre = scale(self.epsilons, cost), scale(self.mean_costs, cost)

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return fresh ``S[rows] + psi``, (..., n, M)."""
        scores = (self.centre - self.cost[..., rows, :]).div_(self.epsilon)
        return scores if psi is None else scores.add_(psi.unsqueeze(-2))

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, g in units of the cost."""
        f = phi.unsqueeze(-1) * self.epsilon + 0.5 * self.centre
        g = psi.unsqueeze(-1) * self.epsilon + 0.5 * self.centre
        return f.squeeze(-1), g.squeeze(-1)

    def to_psi(self, g: Tensor) -> Tensor:
        """Invert :meth:`to_potentials` for g."""
        return ((g.unsqueeze(-1) - 0.5 * self.centre) / self.epsilon).squeeze(-1)


def inner_products(x: Tensor, y: Tensor, factor: Scale, offset: Tensor | None) -> Tensor:
    """Return ``factor * x y^T + offset``, (..., N, M), for clouds (..., N, D), (..., M, D) and offset (..., M)."""
    y = y.transpose(-2, -1)
    if isinstance(factor, float):
        if offset is None:  # beta=0: the first argument is only a shape
            return torch.addmm(x.new_empty(1), x, y, beta=0, alpha=factor)
        return torch.addmm(offset, x, y, alpha=factor)
    scaled = x * factor
    return torch.bmm(scaled, y) if offset is None else torch.baddbmm(offset.unsqueeze(-2), scaled, y)


def scale(values: list[float], like: Tensor) -> Scale:
    """One number per problem, as a float for clouds (N, D) and as (B, 1, 1) for (B, N, D)."""
    return values[0] if like.dim() == 2 else like.new_tensor(values)[:, None, None]


def absolute(epsilon: float, relative: bool, mean_costs: list[float], dtype: torch.dtype) -> list[float]:
    """Epsilon of every problem in units of its cost. A constant cloud has no cost: the floor lets it through."""
    tiny = torch.finfo(dtype).tiny
    return [max(epsilon * cost, tiny) if relative else epsilon for cost in mean_costs]


def average(values: Tensor, marginal: Marginal) -> Tensor:
    """Weighted mean over points, (..., N) -> (...)."""
    return values.mean(-1) if marginal.uniform else (marginal.weights * values).sum(-1)


def _reach(peaks_x: list[float], peaks_y: list[float], epsilons: list[float]) -> float:
    """Bound on the logits of centred clouds from their largest squared norms: |<x, y>| <= |x| |y|."""
    return max(math.sqrt(p * q) / e for p, q, e in zip(peaks_x, peaks_y, epsilons, strict=True))


def _centre(points: Tensor, marginal: Marginal) -> tuple[Tensor, Tensor]:
    """Return centred points (padding at the centre) and their mean (..., 1, D)."""
    points = _hide(points, marginal)
    mean = marginal.weights.unsqueeze(-2) @ points
    centred = points - mean
    if marginal.padding is not None:
        centred.masked_fill_(marginal.padding.unsqueeze(-1), 0.0)
    return centred, mean


def _mean_square(points: Tensor, marginal: Marginal) -> Tensor:
    """Weighted mean of the squared norms of points, (..., N, D) -> (...)."""
    count, dim = points.shape[-2:]
    if marginal.uniform and count * dim <= _FLAT_SUM:
        flat = points.reshape(*points.shape[:-2], count * dim)
        total = torch.dot(flat, flat) if flat.dim() == 1 else torch.linalg.vector_norm(flat, dim=-1).square_()
        return total / count
    return average(torch.linalg.vecdot(points, points), marginal)


def _to_host(*facts: Tensor) -> list[list[float]]:
    """Numbers per problem, (...) each, as lists; one transfer brings all of them from a GPU."""
    if facts[0].dim() == 0 and not facts[0].is_cuda:
        return [[fact.item()] for fact in facts]
    return torch.stack(facts).reshape(len(facts), -1).tolist()


def _hide(points: Tensor, marginal: Marginal) -> Tensor:
    """Replace padded rows by zeros: whatever they hold, NaN included, must not reach a sum."""
    return points if marginal.padding is None else points.masked_fill(marginal.padding.unsqueeze(-1), 0.0)
