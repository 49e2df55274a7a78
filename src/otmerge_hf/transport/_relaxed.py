r"""What comes in: a batch of problems whose marginals may be missed at a price. What goes out: the same scalings.

With marginals relaxed by $\rho\,\mathrm{KL}(P1 | a) + \rho\,\mathrm{KL}(P^\top 1 | b)$ a half-step goes only
$\tau = \rho / (\rho + \varepsilon)$ of the way (Chizat et al. 2018, table 1). An exact marginal absorbs the part of
the cost that belongs to one cloud alone; a relaxed one does not, so it comes back here as one factor per point. The
best constant between the potentials has a closed form and is taken with every step (Séjourné et al. 2022, section 3).
"""

import torch
from torch import Tensor

from ._checks import Marginal
from ._core import integrate
from ._relaxation import Number
from ._scaling import Scaler, log_ratio, stretched, total_size
from .geometry import PointGeometry, times


# Largest step in the constant between the potentials, in units of epsilon.
_LARGEST_CONSTANT = 5.0


class RelaxedScaler(Scaler):
    """A `Scaler` for relaxed marginals: u = alpha (K v)^-tau, v = beta (K^T u)^-tau.

    The error is what the column marginal would change by if it were fitted once more, as a share of the mass that
    is moved: for tau = 1 that is what it misses of b.
    """

    def __init__(self, geometry: PointGeometry, tau: float) -> None:
        self.tau = tau
        self.tiny = torch.finfo(geometry.a.weights.dtype).tiny ** 0.8  # so that its inverse leaves room for more
        zeros = torch.zeros_like(geometry.a.weights), torch.zeros_like(geometry.b.weights)
        assert isinstance(geometry.inverse, Tensor)
        self.inverse, self.epsilons = geometry.inverse, geometry.inverse.reciprocal().flatten()
        self.own = [times(own, self.inverse) for own in geometry.to_potentials(*zeros)]
        self.fitted = torch.empty_like(geometry.b.weights)  # the v of the next plain step
        # From g = 0, not psi = 0: a far point must not start with a potential that outweighs its distance.
        super().__init__(geometry, geometry.b.fill(self.own[1].neg(), -torch.inf))

    def restart(self, psi: Tensor | None) -> None:
        super().restart(psi)
        self.log_alpha = self._log_factor(self.a, self.own[0], self.shift)
        self.log_beta = self._log_factor(self.b, self.own[1], psi)

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
        """Wanted over present mass of the columns, (..., M), 0 where there is none; after `measure`."""
        return (self.fitted / self.v).masked_fill_(self.v == 0, 0.0)

    def dual(self, phi: Tensor) -> Tensor:
        r"""Dual values, (B,), at the potentials of `phi` and of the columns fitted once more.

        $$ \rho\langle a, 1 - e^{-f/\rho}\rangle + \rho\langle b, 1 - e^{-g/\rho}\rangle
           + \varepsilon\,(1 - \textstyle\sum_{ij} P_{ij}) $$
        """
        price = self.tau / (1.0 - self.tau)  # rho / epsilon
        psi = log_ratio(self.fitted.clamp(min=self.tiny), self.b, self.psi)
        total = torch.sub(1.0, (self.fitted * self.columns).sum(-1))
        for marginal, potential in zip((self.a, self.b), self.geometry.to_potentials(phi, psi), strict=True):
            # tends to the potential where rho is large, without the difference of large numbers
            lost = torch.expm1(times(potential, self.inverse).mul_(-1.0 / price))
            total.sub_(integrate(marginal, lost), alpha=price)
        return total * self.epsilons

    def _fit(self, mass: Tensor, log_factor: Tensor, out: Tensor) -> None:
        torch.clamp(mass, min=self.tiny, out=out)
        torch.add(log_factor, out.log_(), alpha=-self.tau, out=out).exp_()

    def _log_factor(self, marginal: Marginal, own: Tensor, absorbed: Tensor | None) -> Tensor:
        """Log of alpha or beta, (..., N); -inf on padding."""
        exponent = own if absorbed is None else own + absorbed
        return marginal.fill(torch.add(marginal.weights.log(), exponent, alpha=self.tau - 1.0), -torch.inf)
