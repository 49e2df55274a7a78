"""Optimal transport between the prototypes of both sides, which remember many batches."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..transport import sinkhorn, sinkhorn_divergence
from .convergence import noted
from .points import check_positive, in_float32, squared_distances
from .term import LossTerm


# Smallest standard deviation, units of the shared space: the root's slope stays finite where a component is a point.
_MIN_DEVIATION = 1e-3
# Rounds of balanced clustering on the first batch: prototypes start as clusters, not as single points.
_FIRST_ROUNDS = 10


@in_float32
def prototype_loss(context_moments: torch.Tensor, query_moments: torch.Tensor, epsilon: float = 0.05) -> torch.Tensor:
    r"""Debiased entropic transport between two mixtures of diagonal Gaussians with equal weights; in cost units.

    $$ L = S_\epsilon\Big(\frac1K \sum_k \delta_{(\mu^x_k, \sigma^x_k)},
       \frac1K \sum_l \delta_{(\mu^y_l, \sigma^y_l)}\Big), \quad
       c_{kl} = \tfrac12 \lVert \mu^x_k - \mu^y_l \rVert^2 + \tfrac12 \lVert \sigma^x_k - \sigma^y_l \rVert^2 $$

    c is half the squared 2-Wasserstein (Bures) distance of two diagonal Gaussians. Labels of prototypes mean
    nothing across sides: the plan finds which belongs to which.

    Args:
        context_moments, query_moments: (2, K, D), means and mean squares of the points of each of K prototypes.
        epsilon: As a fraction of the mean cost between the prototypes.

    Example:
        >>> moments = torch.stack([torch.randn(4, 3), torch.full((4, 3), 9.0)])
        >>> abs(prototype_loss(moments, moments.flip(1)).item()) < 1e-3
        True

    Source: Delon and Desolneux 2020 (transport between mixtures), in the place of DecAlign's (Qian et al. 2025)
    multi-marginal cost; checked against plans of POT's `sinkhorn`.
    """
    for name, moments in (("context_moments", context_moments), ("query_moments", query_moments)):
        if moments.dim() != 3 or len(moments) != 2:
            raise ValueError(f"`{name}` has shape {tuple(moments.shape)}; expected (2, prototypes, dimensions).")
    check_positive(epsilon, "epsilon")
    return noted(sinkhorn_divergence(*map(_components, (context_moments, query_moments)), epsilon=epsilon)).value


def _components(moments: torch.Tensor) -> torch.Tensor:
    """Points (K, 2D) whose squared distance is that of the Gaussians: means beside deviations."""
    mean, square = moments
    variance = (square - mean.square()).clamp(min=0)
    return torch.cat([mean, (variance + _MIN_DEVIATION**2).sqrt()], dim=1)


@in_float32
def batch_moments(points: torch.Tensor, means: torch.Tensor, epsilon: float = 0.05) -> torch.Tensor:
    """Means and mean squares (2, K, D) of the points (N, D) that an entropic plan gives to each prototype (K, D).

    The plan gives every prototype the same mass: none can starve. It is solved in the log domain and held still in
    the gradient, as an expectation-maximisation step holds its responsibilities.
    """
    plan = noted(sinkhorn(points.detach(), means.detach(), epsilon=epsilon)).plan()  # (N, K)
    shares = (plan / plan.sum(dim=0)).T  # (K, N), rows sum to 1
    return torch.stack([shares @ points, shares @ points.square()])


@torch.no_grad()
@in_float32
def first_moments(points: torch.Tensor, count: int, epsilon: float = 0.05) -> torch.Tensor:
    """Start with points far from each other, then a few rounds of balanced clustering; no random numbers."""
    if len(points) < count:
        found = f"{len(points)} points for {count} prototypes"
        raise ValueError(f"The first batch holds {found}; take fewer prototypes or larger batches.")
    chosen = [int((points - points.mean(dim=0)).square().sum(dim=1).argmin())]
    nearest = squared_distances(points, points[chosen])[:, 0]
    while len(chosen) < count:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, squared_distances(points, points[chosen[-1:]])[:, 0])
    moments = batch_moments(points, points[chosen], epsilon)
    for _ in range(_FIRST_ROUNDS):
        moments = batch_moments(points, moments[0], epsilon)
    return moments


@dataclass
class PrototypeTerm(LossTerm):
    r"""[`prototype_loss`] between exponential moving averages of each side's prototypes.

    $$ m \leftarrow \beta\, m + (1 - \beta)\, m_\text{batch}, \quad
       \nabla_\theta L = \frac{\partial L}{\partial m} \frac{\partial m_\text{batch}}{\partial \theta} $$

    The value belongs to the averages, the gradient flows through the batch's share as if it were all of them
    (compositional gradient descent, Wang, Fang and Liu 2017): small batches then teach what the whole cloud would.
    Prefer it to `sinkhorn` when batches are small (below some 256 rows) and the clouds fall into clusters. Only means
    and spreads of prototypes are seen; zero for constant maps. In evaluation the batch's own moments are compared
    and the averages stay.

    Attributes:
        prototypes: K, of each side; a batch should hold 20 rows for each.
        momentum: beta in [0, 1); 0 uses the batch alone.
        epsilon: Of the transport between prototypes and of the assignment, as fractions of the mean costs.
    """

    prototypes: int = 16
    momentum: float = 0.9
    epsilon: float = 0.05
    name: ClassVar[str] = "prototype"

    def __post_init__(self) -> None:
        if self.prototypes < 1 or not 0 <= self.momentum < 1:
            given = f"`prototypes` is {self.prototypes} and `momentum` {self.momentum}"
            raise ValueError(f"{given}; expected at least 1, and [0, 1).")
        self._moments: dict[str, torch.Tensor] = {}

    def __call__(self, outputs: Any) -> torch.Tensor:
        context = self._advance("context", outputs.context_embeds)
        query = self._advance("query", outputs.query_embeds)
        return prototype_loss(context, query, self.epsilon)

    def _advance(self, side: str, points: torch.Tensor) -> torch.Tensor:
        if side in self._moments:
            known = self._moments[side].to(points.device)
        else:
            known = first_moments(points.detach(), self.prototypes, self.epsilon)
        batch = batch_moments(points, known[0], self.epsilon)
        if not torch.is_grad_enabled():
            return batch
        moved = self.momentum * known + (1 - self.momentum) * batch.detach()
        self._moments[side] = moved
        return moved + (batch - batch.detach())

    def buffers(self) -> dict[str, torch.Tensor]:
        return dict(self._moments)

    def load_buffers(self, buffers: dict[str, torch.Tensor]) -> None:
        self._moments = dict(buffers)
