import geomloss
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from otmerge_hf.metrics import debiased_sinkhorn, modality_gap, squared_wasserstein2


def test_gap_by_hand():
    context = torch.tensor([[2.0, 0.0], [0.0, 5.0]])  # centre of the directions (0.5, 0.5)
    query = torch.tensor([[-1.0, 0.0]])
    assert modality_gap(context, query) == pytest.approx(np.hypot(1.5, 0.5))


def test_gap_does_not_see_shuffling():
    x = torch.randn(30, 4)
    assert modality_gap(x, x.flip(0)) == pytest.approx(0.0, abs=1e-12)


def test_wasserstein_against_assignment():
    x, y = torch.randn(25, 3).double(), torch.randn(25, 3).double() + 1
    cost = torch.cdist(x, y).numpy() ** 2
    rows, columns = linear_sum_assignment(cost)
    assert squared_wasserstein2(x, y) == pytest.approx(cost[rows, columns].mean())


def test_wasserstein_of_a_shift_is_its_square():
    x = torch.randn(40, 5)
    assert squared_wasserstein2(x, x + 2) == pytest.approx(5 * 4, rel=1e-5)


def test_unequal_sizes_split_mass():
    assert squared_wasserstein2(torch.zeros(1, 1), torch.tensor([[1.0], [3.0]])) == pytest.approx(5.0)


def test_sinkhorn_divergence_against_geomloss():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=generator).double(), torch.randn(30, 3, generator=generator).double() + 1
    epsilon = 0.2 * float(torch.cdist(x, y).square().mean() / 2)
    oracle = geomloss.SamplesLoss("sinkhorn", p=2, blur=epsilon**0.5, scaling=0.99)(x, y)
    assert debiased_sinkhorn(x, y, epsilon=0.2) == pytest.approx(float(oracle), rel=1e-3)
    assert debiased_sinkhorn(x, x) == pytest.approx(0.0, abs=1e-6)


def test_small_epsilon_gives_half_of_w2_squared():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 3, generator=generator), torch.randn(30, 3, generator=generator) + 3
    assert 2 * debiased_sinkhorn(x, y, epsilon=0.01) == pytest.approx(squared_wasserstein2(x, y), rel=0.02)


def test_widths_must_match():
    with pytest.raises(ValueError, match="query has 3 features, expected 2"):
        squared_wasserstein2(torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="query has 3 features, expected 2"):
        modality_gap(torch.zeros(1, 2), torch.zeros(1, 3))
