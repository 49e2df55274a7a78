r"""What comes in: a batch of problems whose marginals may be missed at a price. What goes out: the same scalings.

With marginals relaxed by $\rho\,\mathrm{KL}(P1 | a) + \rho\,\mathrm{KL}(P^\top 1 | b)$ a half-step goes only
$\tau = \rho / (\rho + \varepsilon)$ of the way (Chizat et al. 2018, table 1). An exact marginal absorbs the part of
the cost that belongs to one cloud alone; a relaxed one does not, so it comes back here as one factor per point. The
best constant between the potentials has a closed form and is taken with every step (Séjourné et al. 2022, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._relaxation import Number
from ._scaling import Scaler, Solution, stretched, total_size
from .geometry import PointGeometry


# Largest step in the constant between the potentials, in units of epsilon.
_LARGEST_CONSTANT = 5.0


class RelaxedScaler(Scaler):
    """A `Scaler` for relaxed marginals: u = alpha (K v)^-tau, v = beta (K^T u)^-tau.

    The error is what the column marginal would change by if it were fitted once more, as a share of the mass that
    is moved: for tau = 1 that is what it misses of b.
    """

    def __init__(self, geometry: PointGeometry, tau: float) -> None:
        self.tau = tau
        self.tiny = torch.finfo(geometry.a.weights.dtype).tiny
        zeros = torch.zeros_like(geometry.a.weights), torch.zeros_like(geometry.b.weights)
        self.own = [(own.unsqueeze(-1) * geometry.inverse).squeeze(-1) for own in geometry.to_potentials(*zeros)]
        self.log_a, self.log_b = geometry.a.weights.log(), geometry.b.weights.log()
        self.fitted = torch.empty_like(geometry.b.weights)  # the v of the next plain step
        super().__init__(geometry, None)

    def restart(self, psi: Tensor | None) -> None:
        super().restart(psi)
        self.log_alpha = self._log_factor(self.log_a, self.own[0], self.shift)
        self.log_beta = self._log_factor(self.log_b, self.own[1], psi)

    def absorb(self) -> Tensor:
        self.v.clamp_(min=self.tiny)
        return super().absorb()

    def measure(self) -> Tensor:
        """Fit the rows; return the L1 change of the columns if they were fitted next, (...)."""
        self.by_row()
        self._fit(self.rows, self.log_alpha, self.u)
        self.by_column()
        self._fit(self.columns, self.log_beta, self.fitted)
        self.mass = torch.mul(self.v, self.columns, out=self.gap).sum(-1, keepdim=True).clamp_(min=self.tiny)
        torch.sub(self.v, self.fitted, out=self.gap).mul_(self.columns).div_(self.mass)
        return total_size(self.gap)

    def step(self, omega: Number | None) -> None:
        # Wanted over present mass of all columns, to the power rho / 2 epsilon: the constant's best value.
        constant = (1.0 - self.gap.sum(-1, keepdim=True)).clamp_(min=self.tiny).log_()
        constant.mul_(0.5 * self.tau / (1.0 - self.tau)).clamp_(-_LARGEST_CONSTANT, _LARGEST_CONSTANT).exp_()
        if omega is None:
            torch.mul(self.fitted, constant, out=self.v)
        else:
            self.v.mul_(stretched(self.fit().mul_(constant), omega))

    def fit(self) -> Tensor:
        """Wanted over present mass of the columns, (..., M), 0 where there is none; after [`measure`]."""
        return (self.fitted / self.v).masked_fill_(self.v == 0, 0.0)

    def solution(self, iterations: int, converged: bool) -> Solution:
        """Pack what the last [`measure`] left; scalings below the smallest number count as that number."""
        self.u.clamp_(min=self.tiny)
        self.v.clamp_(min=self.tiny)
        return super().solution(iterations, converged)

    def _fit(self, mass: Tensor, log_factor: Tensor, out: Tensor) -> None:
        torch.clamp(mass, min=self.tiny, out=out)
        torch.add(log_factor, out.log_(), alpha=-self.tau, out=out).exp_()

    def _log_factor(self, log_weights: Tensor, own: Tensor, absorbed: Tensor | None) -> Tensor:
        """Log of alpha or beta, (..., N); -inf on padding."""
        exponent = own if absorbed is None else own + absorbed
        factor = torch.add(log_weights, exponent, alpha=self.tau - 1.0)
        return factor.masked_fill_(log_weights.isneginf(), -torch.inf)
