"""Value, gradient and plan against POT in float64 and against geomloss."""

import math

import geomloss
import numpy as np
import ot
import pytest
import torch

from otmerge_hf.transport import sinkhorn, sinkhorn_from_cost

from .clouds import clouds, pot_plan, pot_reference, relative_error, weights


@pytest.mark.parametrize("epsilon", [0.2, 0.05, 0.01])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_gradient_and_plan_agree_with_pot(epsilon, weighted):
    x, y = clouds()
    a, b = (weights(40), weights(50, seed=1)) if weighted else (None, None)
    value, gradient, plan = pot_reference(x, y, epsilon, a, b)
    result = sinkhorn(x.requires_grad_(), y, epsilon=epsilon, a=a, b=b)
    result.value.backward()
    assert result.converged
    assert result.value.item() == pytest.approx(value, rel=1e-4)
    assert relative_error(x.grad, gradient) <= 1e-2
    assert np.abs(result.plan().numpy() - plan).sum() <= 2e-2


@pytest.mark.parametrize(("n", "d", "epsilon"), [(64, 256, 0.05), (64, 256, 0.01), (128, 64, 0.01), (100, 3, 0.02)])
def test_defaults_keep_the_promised_accuracy(n, d, epsilon):
    x, y = clouds(n, n, d)
    value, gradient, _ = pot_reference(x, y, epsilon, start=True)
    result = sinkhorn(x.requires_grad_(), y, epsilon=epsilon)
    result.value.backward()
    assert result.value.item() == pytest.approx(value, rel=1e-4)
    assert relative_error(x.grad, gradient) <= 1e-2


def test_gradient_in_the_target_agrees_with_pot():
    x, y = clouds()
    _, gradient, _ = pot_reference(y, x, 0.05)
    sinkhorn(x, y.requires_grad_()).value.backward()
    assert relative_error(y.grad, gradient) <= 1e-2


def test_cosine_cost_agrees_with_pot():
    x, y = clouds()
    cost = ot.dist(x.double().numpy(), y.double().numpy(), metric="cosine")
    plan, *_ = pot_plan(x, y, 0.05, cost=cost)
    result = sinkhorn(x, y, cost="cosine", tol=1e-6)
    assert np.abs(result.plan().numpy() - plan).sum() <= 1e-4


def test_potentials_agree_with_pot_up_to_a_constant():
    x, y = clouds(dtype=torch.float64)
    plan, cost, a, b, epsilon = pot_plan(x, y, 0.05)
    f, g = sinkhorn(x, y, tol=1e-9).potentials
    from_potentials = a[:, None] * b * np.exp((f.numpy()[:, None] + g.numpy() - cost) / epsilon)
    np.testing.assert_allclose(from_potentials, plan, atol=1e-7)


def test_value_and_gradient_agree_with_geomloss_annealed_slowly():
    x, y = clouds()
    epsilon = 0.5
    loss = geomloss.SamplesLoss("sinkhorn", p=2, blur=math.sqrt(epsilon), scaling=0.995, debias=False)
    leaf = x.clone().requires_grad_()
    value = loss(leaf, y)
    value.backward()
    result = sinkhorn(x.requires_grad_(), y, epsilon=epsilon, epsilon_scale="absolute")
    result.value.backward()
    assert result.value.item() == pytest.approx(value.item(), rel=1e-4)
    assert relative_error(x.grad, leaf.grad) <= 1e-2


def test_cost_matrix_route_agrees_with_the_clouds():
    x, y = clouds(dtype=torch.float64)
    a, b = weights(40, dtype=torch.float64), weights(50, seed=1, dtype=torch.float64)
    cost = (0.5 * torch.cdist(x, y) ** 2).requires_grad_()
    by_cost = sinkhorn_from_cost(cost, a=a, b=b, tol=1e-9)
    by_cost.value.backward()
    by_cloud = sinkhorn(x, y, a=a, b=b, tol=1e-9)
    torch.testing.assert_close(by_cost.value, by_cloud.value)
    torch.testing.assert_close(cost.grad, by_cloud.plan(), atol=1e-10, rtol=1e-6)
    for one, other in zip(by_cost.potentials, by_cloud.potentials, strict=True):
        torch.testing.assert_close(one - one.mean(), other - other.mean(), atol=1e-6, rtol=1e-6)


def test_costs_of_mixed_sign_need_an_absolute_epsilon():
    cost = torch.tensor([[-3.0, 1.0], [1.0, -3.0]], dtype=torch.float64)
    shifted = sinkhorn_from_cost(cost + 3.0, epsilon=0.5, epsilon_scale="absolute")
    plain = sinkhorn_from_cost(cost, epsilon=0.5, epsilon_scale="absolute")
    torch.testing.assert_close(plain.value, shifted.value - 3.0)
    with pytest.raises(ValueError, match="mean >= 0 when epsilon_scale='mean'"):
        sinkhorn_from_cost(cost)


def test_barycentric_projection_agrees_with_pot():
    x, y = clouds()
    plan, *_ = pot_plan(x, y, 0.05)
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(3))
    projected = sinkhorn(x, y, tol=1e-6).barycentric_projection(features)
    expected = plan @ features.double().numpy() / plan.sum(1)[:, None]
    assert relative_error(projected, expected) <= 1e-4
