"""Exact transport against SciPy's assignment, and the limit of the entropic value."""

import builtins

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otmerge_hf.transport import sinkhorn, wasserstein2

from .clouds import clouds, weights


def by_assignment(x, y):
    cost = torch.cdist(x.double(), y.double()).square().numpy()
    return np.sqrt(cost[linear_sum_assignment(cost)].mean())


def test_it_agrees_with_the_assignment_problem():
    x, y = clouds(40, 40, 6)
    assert wasserstein2(x, y).item() == pytest.approx(by_assignment(x, y), rel=1e-6)


def test_a_batch_and_a_mask():
    x, y = clouds(10, 10, 3)
    batch = wasserstein2(torch.stack((x, x + 1)), torch.stack((y, y)))
    torch.testing.assert_close(batch, torch.stack((wasserstein2(x, y), wasserstein2(x + 1, y))))
    padded = torch.cat((x, torch.full((2, 3), float("nan"))))
    torch.testing.assert_close(wasserstein2(padded, y, x_mask=torch.arange(12) < 10), wasserstein2(x, y))


def test_weights_are_mass():
    x, y = clouds(4, 6, 2)
    twice = torch.tensor([2.0, 1.0, 1.0, 1.0]) / 5
    torch.testing.assert_close(wasserstein2(x, y, a=twice), wasserstein2(torch.cat((x[:1], x)), y))


def test_far_clouds_are_exact():
    x, _ = clouds(10, 10, 3)
    assert wasserstein2(x, x + 1e4).item() == pytest.approx(1e4 * 3**0.5, rel=1e-6)


def test_the_entropic_value_tends_to_half_its_square():
    x, y = clouds(20, 20, 3, dtype=torch.float64)
    a = weights(20, dtype=torch.float64)
    exact = 0.5 * wasserstein2(x, y, a=a) ** 2
    gaps = [
        sinkhorn(x, y, a=a, epsilon=epsilon, epsilon_scale="absolute", tol=1e-6, max_iterations=20000).value - exact
        for epsilon in (0.3, 0.1, 0.03)
    ]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 0.03 * np.log(20)  # eps times the largest relative entropy


def test_a_missing_pot_is_named(monkeypatch):
    real = builtins.__import__

    def without_pot(name, *args, **kwargs):
        if name == "ot":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pot)
    with pytest.raises(ImportError, match=r"wasserstein2 needs POT: pip install 'otmerge-hf\[exact\]'"):
        wasserstein2(*clouds())
