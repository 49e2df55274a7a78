"""Entropic Gromov-Wasserstein discrepancy: two clouds compared by their inner distances alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..transport import sinkhorn_from_cost
from .convergence import noted
from .points import PLAN_TOL, check_clouds, check_positive, connected_zero, in_float32, squared_distances, unit
from .term import LossTerm


@in_float32
def gromov_loss(
    context_embeds: torch.Tensor,
    query_embeds: torch.Tensor,
    epsilon: float = 0.05,
    normalize: bool = True,
    max_iterations: int = 50,
) -> torch.Tensor:
    r"""Debiased entropic Gromov-Wasserstein discrepancy of two clouds; in squared cost units.

    $$ GW_\epsilon(x, y) = \min_{P \in U(a, b)} \sum_{ijkl} (C^x_{ik} - C^y_{jl})^2 P_{ij} P_{kl}
       + \epsilon \operatorname{KL}(P \mid a b^\top), \quad C^x_{ik} = \tfrac12 \lVert x_i - x_k \rVert^2 $$
    $$ L = GW_\epsilon(x, y) - \tfrac12 GW_\epsilon(x, x) - \tfrac12 GW_\epsilon(y, y) $$

    Zero for clouds that differ by a rotation, a reflection or an order of points: it gives both clouds one inner
    shape and leaves their place open. Prefer it where the two sides have no common frame yet and pairs are few; a
    paired or contrastive term must hold the frame. Zero for constant maps. A large epsilon keeps the plan near the
    product of the marginals, where no point knows its partner.

    The problem is not convex. All three plans are found by projected mirror descent from the product of the marginals,
    so equal shapes give exactly zero; the value may be a little below zero where one descent ended higher than others.
    The gradient holds plans and epsilon still (envelope theorem). A step of the descent costs O(N^2 M + N M^2).

    Args:
        context_embeds, query_embeds: (N, D) and (M, D'); the widths may differ.
        epsilon: Regularisation, as a fraction of the mean linearised cost at the product of the marginals.
        normalize: Put the points on the unit sphere first, so that C is one minus the cosine.
        max_iterations: Steps of the descent.

    Example:
        >>> x = torch.randn(8, 3)
        >>> abs(gromov_loss(x, -x.flip(0)).item()) < 1e-6
        True

    Source: Peyré, Cuturi and Solomon 2016, proposition 2 and equation 10; checked against POT's
    `ot.gromov.entropic_gromov_wasserstein`.
    """
    check_clouds(context_embeds, query_embeds, one_space=False)
    check_positive(epsilon, "epsilon")
    x, y = (unit(context_embeds), unit(query_embeds)) if normalize else (context_embeds, query_embeds)
    inner_x, inner_y = squared_distances(x, x) / 2, squared_distances(y, y) / 2
    with torch.no_grad():
        product = inner_x.new_full((len(x), len(y)), 1 / (len(x) * len(y)))
        absolute = epsilon * float(2 * _linearised(inner_x, inner_y, product).mean())
    # below this, distances are rounding: both clouds are points, and have one shape
    if absolute <= epsilon * torch.finfo(x.dtype).eps ** 2:
        return connected_zero(context_embeds, query_embeds)
    between = _gromov(inner_x, inner_y, absolute, max_iterations)
    within_x = _gromov(inner_x, inner_x, absolute, max_iterations)
    within_y = _gromov(inner_y, inner_y, absolute, max_iterations)
    return between - (within_x + within_y) / 2


def _gromov(inner_x: torch.Tensor, inner_y: torch.Tensor, epsilon: float, max_iterations: int) -> torch.Tensor:
    """Entropic Gromov-Wasserstein value, differentiable in both inner distances; epsilon in squared cost units."""
    plan, entropy = entropic_plan(inner_x.detach(), inner_y.detach(), epsilon, max_iterations)
    return (_linearised(inner_x, inner_y, plan) * plan).sum() + epsilon * entropy


@torch.no_grad()
def entropic_plan(
    inner_x: torch.Tensor, inner_y: torch.Tensor, epsilon: float, max_iterations: int = 50
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plan (N, M) between inner distances (N, N) and (M, M), and its KL from the product of the marginals."""
    rows, columns = len(inner_x), len(inner_y)
    plan = inner_x.new_full((rows, columns), 1 / (rows * columns))
    potentials = None
    for _ in range(max_iterations):
        cost = 2 * _linearised(inner_x, inner_y, plan)
        solved = sinkhorn_from_cost(
            cost, epsilon=epsilon, epsilon_scale="absolute", tol=PLAN_TOL, potentials=potentials
        )
        before, plan, potentials = plan, solved.plan(), solved.potentials
        if (plan - before).abs().sum() <= PLAN_TOL:
            break
    noted(solved)  # the last one made the plan
    return plan, torch.special.xlogy(plan, plan * (rows * columns)).sum()


def _linearised(inner_x: torch.Tensor, inner_y: torch.Tensor, plan: torch.Tensor) -> torch.Tensor:
    """Cost (N, M) of one more unit of mass beside `plan`: the sum over kl of (C^x_ik - C^y_jl)^2 P_kl."""
    first = inner_x.square() @ plan.sum(dim=1)  # (N,)
    second = inner_y.square() @ plan.sum(dim=0)  # (M,)
    return first[:, None] + second[None, :] - 2 * inner_x @ plan @ inner_y.T


@dataclass
class GromovTerm(LossTerm):
    """[`gromov_loss`] of the shared embeddings, paired or not."""

    epsilon: float = 0.05
    normalize: bool = True
    max_iterations: int = 50
    name: ClassVar[str] = "gromov"

    def __call__(self, outputs: Any) -> torch.Tensor:
        return gromov_loss(
            outputs.context_embeds, outputs.query_embeds, self.epsilon, self.normalize, self.max_iterations
        )
