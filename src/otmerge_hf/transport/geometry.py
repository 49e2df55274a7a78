r"""What comes in: two clouds, or a cost matrix. What goes out: logits for the solver, and the way back to cost units.

The solvers never see a cost. They work on dimensionless *logits* :math:`S_{ij}` and *log-scalings*
:math:`\varphi, \psi` with the plan :math:`P_{ij} = a_i b_j \exp(S_{ij} + \varphi_i + \psi_j)`; a geometry knows how
S comes from its inputs (whole, or a block of rows) and what :math:`\varphi, \psi` mean in units of the cost.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ._checks import Marginal, name_bad_tensor


class Geometry(Protocol):
    """What a solver and a result need to know about the problem. Shapes: (..., N, M), batch optional."""

    a: Marginal
    b: Marginal
    epsilon: Tensor
    mean_cost: Tensor
    spread: float

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
        self.x, self.mean_x, self.half_x = _centre(x, a)  # (..., N, D), (..., 1, D), (..., N)
        self.y, self.mean_y, self.half_y = _centre(y, b)
        self.shift = self.mean_x - self.mean_y  # (..., 1, D)
        between = self.shift.square().sum(dim=(-2, -1)).mul_(0.5)  # (...)
        self.mean_cost = _average(self.half_x, a) + _average(self.half_y, b) + between
        # One transfer to the host brings everything the solver must know before it starts.
        facts = torch.stack((self.mean_cost, self.half_x.amax(-1), self.half_y.amax(-1)))
        mean, peak_x, peak_y = facts.reshape(3, -1).tolist()
        if not all(map(math.isfinite, mean)):
            name_bad_tensor(x=_hide(x, a), y=_hide(y, b))
            raise ValueError(f"x and y must have a finite cost in {x.dtype}, got a mean cost of {max(mean)}")
        tiny = torch.finfo(x.dtype).tiny
        # A constant cloud has no cost at all; the floor lets it through to its exact answer, zero.
        self.epsilons = [max(epsilon * cost, tiny) if relative else epsilon for cost in mean]
        self.spread = _spread(peak_x, peak_y, self.epsilons)
        self.self_spreads = (_spread(peak_x, peak_x, self.epsilons), _spread(peak_y, peak_y, self.epsilons))
        if x.dim() == 2:
            self.inverse: float | Tensor = 1.0 / self.epsilons[0]
            self.epsilon = x.new_full((), self.epsilons[0])
        else:
            self.epsilon = torch.tensor(self.epsilons, dtype=x.dtype, device=x.device)
            self.inverse = (1.0 / self.epsilon)[:, None, None]

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return fresh ``S[rows] + psi``, (..., n, M)."""
        return inner_products(self.x[..., rows, :], self.y, self.inverse, psi)

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the centring: f, g in units of the cost of the clouds as they came in."""
        epsilon = self.epsilon.unsqueeze(-1)
        quarter = self.shift.square().sum(dim=-1).mul_(0.25)  # (..., 1)
        across = self.shift.transpose(-2, -1)
        f = epsilon * phi + self.half_x + (self.x @ across).squeeze(-1) + quarter
        g = epsilon * psi + self.half_y - (self.y @ across).squeeze(-1) + quarter
        return f, g

    def to_psi(self, g: Tensor) -> Tensor:
        """Invert :meth:`to_potentials` for g."""
        quarter = self.shift.square().sum(dim=-1).mul_(0.25)
        along = (self.y @ self.shift.transpose(-2, -1)).squeeze(-1)
        return (g - self.half_y + along - quarter) / self.epsilon.unsqueeze(-1)


class CostGeometry:
    """A cost matrix given by the caller, (..., N, M), in any unit; ``epsilon`` comes out in the same unit."""

    def __init__(self, cost: Tensor, a: Marginal, b: Marginal, epsilon: float, relative: bool) -> None:
        self.a, self.b, self.cost = a, b, cost
        self.mean_cost = (a.weights.unsqueeze(-2) @ cost @ b.weights.unsqueeze(-1)).squeeze(-1).squeeze(-1)
        facts = torch.stack((self.mean_cost, cost.amax(dim=(-2, -1)), cost.amin(dim=(-2, -1))))
        mean, highest, lowest = facts.reshape(3, -1).tolist()
        if not all(map(math.isfinite, mean + highest + lowest)):
            name_bad_tensor(cost=cost)
            raise ValueError(f"cost must have a finite mean in {cost.dtype}, got {max(mean)}")
        if relative and min(mean) < 0:
            raise ValueError(
                f"cost must have a mean >= 0 when epsilon_scale='mean', got {min(mean):g}; "
                "give epsilon_scale='absolute' for costs of mixed sign"
            )
        tiny = torch.finfo(cost.dtype).tiny
        epsilons = [max(epsilon * value, tiny) if relative else epsilon for value in mean]
        gaps = zip(mean, highest, lowest, epsilons, strict=True)
        self.spread = max(max(high - centre, centre - low) / e for centre, high, low, e in gaps)
        self.epsilon = torch.tensor(epsilons, dtype=cost.dtype, device=cost.device).reshape(cost.shape[:-2])

    def logits(self, psi: Tensor | None, rows: slice = slice(None)) -> Tensor:
        """Return fresh ``S[rows] + psi``, (..., n, M)."""
        scores = (self.mean_cost[..., None, None] - self.cost[..., rows, :]).div_(self.epsilon[..., None, None])
        return scores if psi is None else scores.add_(psi.unsqueeze(-2))

    def to_potentials(self, phi: Tensor, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Return f, g in units of the cost."""
        epsilon, half = self.epsilon.unsqueeze(-1), 0.5 * self.mean_cost.unsqueeze(-1)
        return epsilon * phi + half, epsilon * psi + half

    def to_psi(self, g: Tensor) -> Tensor:
        """Invert :meth:`to_potentials` for g."""
        return (g - 0.5 * self.mean_cost.unsqueeze(-1)) / self.epsilon.unsqueeze(-1)


def inner_products(x: Tensor, y: Tensor, scale: float | Tensor, offset: Tensor | None) -> Tensor:
    """Return ``scale * x y^T + offset``, (..., N, M), for clouds (..., N, D), (..., M, D) and offset (..., M)."""
    y = y.transpose(-2, -1)
    if isinstance(scale, float) and x.dim() == 2:
        return torch.mm(x * scale, y) if offset is None else torch.addmm(offset, x, y, alpha=scale)
    scaled = x * scale
    return torch.bmm(scaled, y) if offset is None else torch.baddbmm(offset.unsqueeze(-2), scaled, y)


def _spread(peaks_x: list[float], peaks_y: list[float], epsilons: list[float]) -> float:
    """Bound on the logits of centred clouds from their largest half squared norms: |<x, y>| <= |x| |y|."""
    return max(2 * math.sqrt(p * q) / e for p, q, e in zip(peaks_x, peaks_y, epsilons, strict=True))


def _centre(points: Tensor, marginal: Marginal) -> tuple[Tensor, Tensor, Tensor]:
    """Return centred points (padding at the centre), their mean (..., 1, D) and half squared norms (..., N)."""
    if marginal.uniform:
        mean = points.mean(dim=-2, keepdim=True)
    else:
        points = _hide(points, marginal)
        mean = marginal.weights.unsqueeze(-2) @ points
    centred = points - mean
    if marginal.padding is not None:
        centred.masked_fill_(marginal.padding.unsqueeze(-1), 0.0)
    return centred, mean, torch.linalg.vecdot(centred, centred).mul_(0.5)


def _hide(points: Tensor, marginal: Marginal) -> Tensor:
    """Replace padded rows by zeros: whatever they hold, NaN included, must not reach a sum."""
    return points if marginal.padding is None else points.masked_fill(marginal.padding.unsqueeze(-1), 0.0)


def _average(values: Tensor, marginal: Marginal) -> Tensor:
    """Weighted mean over points, (..., N) -> (...)."""
    return values.mean(-1) if marginal.uniform else (marginal.weights * values).sum(-1)
