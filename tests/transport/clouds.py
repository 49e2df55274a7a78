"""Clouds and oracles that several tests share."""

import numpy as np
import ot
import torch

from otmerge_hf.transport import sinkhorn


def clouds(n=40, m=50, d=8, seed=0, dtype=torch.float32):
    """Two overlapping normal clouds of different size, mean and spread."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.7 * torch.randn(m, d, generator=generator, dtype=torch.float64) + 0.5
    return x.to(dtype), y.to(dtype)


def weights(n, seed=0, dtype=torch.float32):
    """Uneven weights that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, generator=generator, dtype=torch.float64).add(0.1).softmax(0).to(dtype)


def pot_plan(x, y, epsilon, a=None, b=None, cost=None, start=False):
    """Plan, cost, weights and absolute epsilon by POT in float64; epsilon is relative to the mean cost.

    Where POT would take minutes, `start` lets it begin at our float64 potentials. That cannot bias it: it stops at
    its own marginal error, and only one plan of this form has these marginals.
    """
    x, y = x.detach().double(), y.detach().double()
    a = np.full(len(x), 1 / len(x)) if a is None else a.detach().double().numpy()
    b = np.full(len(y), 1 / len(y)) if b is None else b.detach().double().numpy()
    a, b = a / a.sum(), b / b.sum()  # float32 weights sum to 1 in float32 only, and POT would never converge
    cost = 0.5 * ot.dist(x.numpy(), y.numpy()) if cost is None else cost
    epsilon = epsilon * (a @ cost @ b)
    warm = None
    if start:
        solved = sinkhorn(x, y, epsilon=epsilon, epsilon_scale="absolute", tol=1e-9, max_iterations=50000)
        warm = [p.numpy() / epsilon + np.log(w) for p, w in zip(solved.potentials, (a, b), strict=True)]
    plan, log = ot.bregman.sinkhorn_log(a, b, cost, epsilon, numItermax=20000, stopThr=1e-8, warmstart=warm, log=True)
    assert log["err"][-1] <= 1e-8
    return plan, cost, a, b, epsilon


def pot_reference(x, y, epsilon, a=None, b=None, start=False):
    """Value <P, C> + eps KL(P | ab), its gradient in x, and the plan, by POT in float64."""
    plan, cost, a, b, epsilon = pot_plan(x, y, epsilon, a, b, start=start)
    product = a[:, None] * b
    positive = plan > 0
    divergence = (plan[positive] * np.log(plan[positive] / product[positive])).sum()
    gradient = plan.sum(1)[:, None] * x.detach().double().numpy() - plan @ y.detach().double().numpy()
    return (plan * cost).sum() + epsilon * divergence, gradient, plan


def relative_error(got, wanted):
    """Norm of the difference over the norm of what was wanted."""
    got, wanted = (torch.as_tensor(value).detach().double() for value in (got, wanted))
    return float((got - wanted).norm() / wanted.norm())
