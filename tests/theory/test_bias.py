"""Section 5 of docs/theory.md: what batches and entropy do to the loss."""

from itertools import combinations

import pytest
import torch
from scipy.optimize import minimize_scalar

from otmerge_hf.transport import sinkhorn, sinkhorn_divergence, wasserstein2

from .draws import grid, normal


def test_batches_overstate_transport_and_larger_ones_less():
    x, y = normal(6, 2, seed=1), normal(6, 2, seed=2) + 0.5
    means, same = [], []
    for size in (1, 2, 3, 5, 6):
        batches = torch.tensor(list(combinations(range(6), size)))
        left, right = torch.cartesian_prod(torch.arange(len(batches)), torch.arange(len(batches))).T
        means.append((wasserstein2(x[batches[left]], y[batches[right]]) ** 2).mean())  # all batches: no sampling error
        same.append(wasserstein2(x[batches[left]], x[batches[right]]).mean())
    assert all(before > after * 1.01 for before, after in zip(means, means[1:], strict=False))
    torch.testing.assert_close(means[-1], wasserstein2(x, y) ** 2)
    torch.testing.assert_close(means[0], torch.cdist(x, y).square().mean())  # a batch of one: the product plan
    assert min(same[:-1]) > 0.1  # batches of one cloud are apart, the whole is not
    assert same[-1] < 1e-6


def best_scale(loss, t):
    (x, a), (y, b) = grid(1.0, 61), grid(t, 61)
    return minimize_scalar(lambda s: loss(s * x, y, a, b).item(), bounds=(0.0, 2 * t), options={"xatol": 1e-4}).x


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0])
def test_entropy_shrinks_the_fitted_cloud_and_debiasing_does_not(epsilon):
    t = 1.3
    options = {"epsilon": epsilon, "epsilon_scale": "absolute", "tol": 1e-7, "max_iterations": 20_000}
    shrunk = best_scale(lambda x, y, a, b: sinkhorn(x, y, a=a, b=b, **options).value, t)
    assert shrunk == pytest.approx(max(t**2 - epsilon, 0.0) ** 0.5, abs=5e-3)
    debiased = best_scale(lambda x, y, a, b: sinkhorn_divergence(x, y, a=a, b=b, **options).value, t)
    assert debiased == pytest.approx(t, abs=5e-3)


def test_a_large_epsilon_aligns_the_means_alone():
    x, y = normal(30, 3, seed=3), 0.4 * normal(30, 3, seed=4) + 1.0

    def divergence(epsilon):
        return sinkhorn_divergence(x, y, epsilon=epsilon, tol=1e-6, max_iterations=20_000).value

    means = (x.mean(0) - y.mean(0)).square().sum() / 2
    transport = wasserstein2(x, y) ** 2 / 2
    assert divergence(1e4) == pytest.approx(means.item(), rel=1e-3)
    assert divergence(0.005) == pytest.approx(transport.item(), rel=0.02)
    assert means < 0.9 * transport  # the two ends differ


def test_batches_of_one_law_pull_inwards_by_as_much_as_they_overstate():
    x, y = normal(40, 24, 6, seed=5), normal(40, 24, 6, seed=6)  # forty couples of batches

    def loss(s):
        return sinkhorn_divergence(s * x, y, epsilon=0.1, tol=1e-6, max_iterations=20_000).value

    value, step = loss(1.0), 1e-2
    slope = (loss(1 + step) - loss(1 - step)) / (2 * step)
    assert value.min() > 0  # debiasing takes the entropy's bias away, and leaves the batch's
    assert slope.mean() == pytest.approx(value.mean().item(), rel=0.1)


def test_the_bias_of_a_batch_falls_slowly_for_transport_and_fast_for_the_divergence():
    d, sizes = 6, torch.tensor([40, 80, 160, 320])
    rows = []
    for n in sizes.tolist():
        x, y = normal(6, n, d, seed=n), normal(6, n, d, seed=n + 1)
        divergence = sinkhorn_divergence(x, y, epsilon=6.0, epsilon_scale="absolute", tol=1e-5).value
        rows.append((torch.log(wasserstein2(x, y) ** 2).mean(), torch.log(divergence.mean())))
    logs = sizes.double().log()
    centred = logs - logs.mean()
    exact, entropic = (centred @ torch.tensor(rows, dtype=torch.float64) / centred.square().sum()).tolist()
    assert exact == pytest.approx(-2 / d, abs=0.1)
    assert entropic == pytest.approx(-1, abs=0.2)
