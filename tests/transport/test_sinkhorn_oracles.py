"""Value, gradient and plan against POT in float64."""

import numpy as np
import ot
import pytest
import torch

from otmerge_hf.transport import sinkhorn, sinkhorn_from_cost


def clouds(n=40, m=50, d=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.7 * torch.randn(m, d, generator=generator, dtype=torch.float64) + 0.5
    return x.to(dtype), y.to(dtype)


def pot_reference(x, y, epsilon, a=None, b=None):
    """Value <P, C> + eps KL(P | ab), its gradient in x, and the plan, by POT in float64."""
    x, y = x.double().numpy(), y.double().numpy()
    a = np.full(len(x), 1 / len(x)) if a is None else a.double().numpy()
    b = np.full(len(y), 1 / len(y)) if b is None else b.double().numpy()
    cost = 0.5 * ot.dist(x, y)
    epsilon = epsilon * (a @ cost @ b)
    plan = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", numItermax=20000, stopThr=1e-11)
    product = a[:, None] * b
    positive = plan > 0
    divergence = (plan[positive] * np.log(plan[positive] / product[positive])).sum()
    return (plan * cost).sum() + epsilon * divergence, plan.sum(1)[:, None] * x - plan @ y, plan


@pytest.mark.parametrize("epsilon", [0.2, 0.05, 0.01])
def test_value_gradient_and_plan_agree_with_pot(epsilon):
    x, y = clouds()
    value, gradient, plan = pot_reference(x, y, epsilon)
    result = sinkhorn(x.requires_grad_(), y, epsilon=epsilon)
    result.value.backward()
    assert result.converged
    assert result.value.item() == pytest.approx(value, rel=1e-4)
    assert np.linalg.norm(x.grad.numpy() - gradient) <= 1e-2 * np.linalg.norm(gradient)
    assert np.abs(result.plan().numpy() - plan).sum() <= 2e-2


def test_cost_matrix_route_agrees_with_the_clouds():
    x, y = clouds(dtype=torch.float64)
    cost = (0.5 * torch.cdist(x, y) ** 2).requires_grad_()
    by_cost = sinkhorn_from_cost(cost, tol=1e-9)
    by_cost.value.backward()
    by_cloud = sinkhorn(x, y, tol=1e-9)
    torch.testing.assert_close(by_cost.value, by_cloud.value)
    torch.testing.assert_close(cost.grad, by_cloud.plan(), atol=1e-10, rtol=1e-6)
