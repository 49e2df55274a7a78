r"""What comes in: a small plan and what depends on it. What goes out: gradients in the points, value and plan alike.

The value's gradient in the cost is the plan P itself (envelope theorem). The plan's own derivative follows from its
marginal equations, which hold at the solution whatever the cost: no iteration is differentiated, and one symmetric
system of the smaller of N and M unknowns per problem is all there is to solve (Luise et al. 2018, theorem 2).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ._autograd import full_precision, refuse_second_derivative


# Added to the diagonal of the scaled system, whose eigenvalues lie between 0 and 1 / tau, times the rounding unit.
_RIDGE = 16.0


@dataclass
class SolvedBatch:
    """What the backward passes need: clouds (B, N, D), (B, M, D), the plan (B, N, M), epsilon (B, 1, 1), tau.

    `x` and `y` are relative to the mean of `y`; `fit` (B, M) would fit the plan's columns once more, and
    `rows` (B, N), `columns` (B, M) are the marginals of the plan and of the plan so fitted.
    """

    x: Tensor
    y: Tensor
    plan: Tensor
    fit: Tensor
    rows: Tensor
    columns: Tensor
    epsilon: Tensor
    tau: float

    def pull_value(self, grad: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
        """Gradients in the points of values whose own gradient is `grad`, (B,)."""
        # That in y is taken with the columns fitted by one more half-step, as in `_core.gradients`.
        by_x = self.plan * grad[:, None, None]
        by_y = by_x * self.fit.unsqueeze(-2) if wanted[1] else by_x
        return self._pull(by_x, by_y, (self.rows * grad[:, None], self.columns * grad[:, None]), wanted)

    def pull_plan(self, grad: Tensor, wanted: tuple[bool, bool]) -> tuple[Tensor | None, Tensor | None]:
        """Gradients in the points of a scalar whose gradient in the plan is `grad`, (B, N, M)."""
        by_cost = self.plan_to_cost(grad)
        return self._pull(by_cost, by_cost, (by_cost.sum(-1), by_cost.sum(-2)), wanted)

    def _pull(
        self, by_x: Tensor, by_y: Tensor, sums: tuple[Tensor, Tensor], wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """From a gradient W in the cost, whose row and column sums are known: x receives `(W 1) x - W y`."""
        grad_x = grad_y = None
        if wanted[0]:
            grad_x = (self.x * sums[0].unsqueeze(-1)).baddbmm_(by_x, self.y, alpha=-1.0)
        if wanted[1]:
            grad_y = (self.y * sums[1].unsqueeze(-1)).baddbmm_(by_y.mT, self.x, alpha=-1.0)
        return grad_x, grad_y

    def plan_to_cost(self, grad: Tensor) -> Tensor:
        r"""Gradient in the cost of a scalar whose gradient in the plan is `grad`, (B, N, M).

        With G for `grad`, r, c for the marginals of P, it is $P \circ (\lambda 1^\top + 1 \mu^\top - G) / \varepsilon$
        where $r\lambda/\tau + P\mu = (P \circ G)1$ and $P^\top\lambda + c\mu/\tau = (P \circ G)^\top 1$.
        """
        plan = self.plan
        if plan.shape[-2] > plan.shape[-1]:
            return replace(self, plan=plan.mT).plan_to_cost(grad.mT).mT
        weighted = plan * grad
        # In units of sqrt(r), sqrt(c) the plan has singular values of at most 1. Padding has neither mass nor part.
        root_r, root_c = plan.sum(-1).sqrt_(), plan.sum(-2).sqrt_()
        inverse_r, inverse_c = (torch.where(root > 0, root.reciprocal(), 0.0) for root in (root_r, root_c))
        scaled = plan * inverse_r.unsqueeze(-1) * inverse_c.unsqueeze(-2)
        right_r = (weighted.sum(-1) * inverse_r).unsqueeze(-1)
        right_c = (weighted.sum(-2) * inverse_c).unsqueeze(-1)
        system = torch.baddbmm(torch.zeros_like(plan[..., :1]), scaled, scaled.mT, alpha=-self.tau)
        if self.tau == 1.0:  # lambda + t, mu - t is the same for every t: choose the one without part along r
            system.baddbmm_(root_r.unsqueeze(-1), root_r.unsqueeze(-2))
        ridge = _RIDGE * torch.finfo(plan.dtype).eps
        system.diagonal(dim1=-2, dim2=-1).add_(1.0 / self.tau + ridge)
        factor, _ = torch.linalg.cholesky_ex(system)
        right = torch.baddbmm(right_r, scaled, right_c, alpha=-self.tau)
        lambdas = torch.cholesky_solve(right, factor)
        mus = torch.baddbmm(right_c, scaled.mT, lambdas, alpha=-1.0).mul_(self.tau)
        prices = (lambdas.squeeze(-1) * inverse_r).unsqueeze(-1) + (mus.squeeze(-1) * inverse_c).unsqueeze(-2)
        return prices.mul_(plan).sub_(weighted).div_(self.epsilon)


class Pulled(torch.autograd.Function):
    """Value or plan of a solved batch; `pull` turns its gradient into those of the points, when asked for."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, pull: Callable[..., tuple[Tensor | None, ...]], *clouds: Tensor) -> Tensor:
        ctx.pull = pull
        return output.clone()  # the caller may overwrite it

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a transport problem")
        with full_precision(grad.device):
            return (None, None, *ctx.pull(grad, ctx.needs_input_grad[2:]))
