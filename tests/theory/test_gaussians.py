"""Section 3 of docs/theory.md: the Gaussian case in closed form."""

import pytest
import torch

from otmerge_hf.alignment import GaussianMonge
from otmerge_hf.transport import sinkhorn, wasserstein2

from .draws import grid, normal, orthogonal, positive_definite, power


def squared_bures_wasserstein(x, y):
    """Of the two normal laws with the clouds' own means and covariances."""
    first, second = (torch.cov(side.T, correction=0) for side in (x, y))
    root = power(first, 0.5)
    spread = (first + second - 2 * power(root @ second @ root, 0.5)).trace()
    return (x.mean(0) - y.mean(0)).square().sum() + spread


def bent(n, d, seed):
    """A cloud that is not normal at all."""
    return torch.expm1(0.5 * normal(n, d, seed=seed))


def test_moments_bound_transport_from_below():
    stretch = positive_definite(4, seed=1)
    for seed in range(5):
        x, y = bent(60, 4, seed), 0.5 * normal(60, 4, seed=seed + 10) + 1.0
        assert squared_bures_wasserstein(x, y) < 0.95 * wasserstein2(x, y) ** 2
        z = x @ stretch + 1.0  # equality, whatever the law of x
        torch.testing.assert_close(squared_bures_wasserstein(x, z), wasserstein2(x, z) ** 2)
    turned = x @ orthogonal(4, seed=2)  # the same covariances are not enough for it
    assert squared_bures_wasserstein(x, turned) < 0.8 * wasserstein2(x, turned) ** 2


def test_the_monge_map_is_the_cheapest_that_fits_both_covariances():
    x, y = normal(500, 5, seed=3) @ positive_definite(5, seed=4), bent(400, 5, seed=5)
    fit = GaussianMonge(0.0).fit(x, y)
    weight = fit.context_map_.weight
    source, target = (torch.cov(side.T, correction=0) for side in (x, y))
    torch.testing.assert_close(weight @ source @ weight.T, target)
    torch.testing.assert_close(weight, weight.T)
    assert fit.eigenvalues_.min() > 0
    mapped = fit.transform_context(x) - fit.transform_query(y).mean(0)
    cost = (x - x.mean(0) - mapped).square().sum(1).mean() + (x.mean(0) - y.mean(0)).square().sum()
    torch.testing.assert_close(cost, squared_bures_wasserstein(x, y))
    for seed in range(5):  # all other linear maps that fit cost more (statement 2.2 lists them)
        other = power(target, 0.5) @ orthogonal(5, seed) @ power(source, -0.5)
        torch.testing.assert_close(other @ source @ other.T, target)
        assert ((x - x.mean(0)) @ (torch.eye(5, dtype=torch.float64) - other.T)).square().sum(1).mean() > 1.5 * cost


def test_unpaired_samples_find_a_stretch_and_miss_a_rotation():
    d, stretch, turn = 6, positive_definite(6, seed=6), orthogonal(6, seed=7)
    errors = {}
    for n in (500, 8000):
        x, other = normal(n, d, seed=8), normal(n, d, seed=9)  # no row of one belongs to a row of the other
        for name, truth in (("stretch", stretch), ("turn", turn)):
            weight = GaussianMonge(0.0).fit(x, other @ truth.T).context_map_.weight
            errors[name, n] = ((weight - truth).norm() / truth.norm()).item()
    assert errors["stretch", 8000] < 0.03
    assert errors["stretch", 500] / errors["stretch", 8000] == pytest.approx(4, rel=0.4)  # root n
    assert errors["turn", 8000] > 1
    assert errors["turn", 500] / errors["turn", 8000] == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_the_entropic_plan_between_gaussians(epsilon):
    s, t = 0.8, 1.5
    (x, a), (y, b) = grid(s), grid(t)
    plan = sinkhorn(x, y, a=a, b=b, epsilon=epsilon, epsilon_scale="absolute", tol=1e-8, max_iterations=20_000)
    covariance = (-epsilon + (epsilon**2 + 4 * s**2 * t**2) ** 0.5) / 2
    middle = slice(25, -25)  # the grids end at six standard deviations
    found = plan.barycentric_projection(y)[middle]
    torch.testing.assert_close(found, covariance / s**2 * x[middle], rtol=1e-3, atol=1e-4)
    assert (x.T @ plan.plan() @ y).item() == pytest.approx(covariance, rel=1e-3)
