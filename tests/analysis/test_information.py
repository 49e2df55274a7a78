"""Estimators of mutual information against Gaussians and others whose information is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_regression

from otmerge_hf.analysis import gaussian_information, ksg_information, neural_information


def correlated(width, nats, rows, seed=0, rotated=True):
    """x and z (rows, width) with that information; rotated, so that no coordinate of one matches one of the other."""
    draw = torch.Generator().manual_seed(seed)
    rho = math.sqrt(1 - math.exp(-2 * nats / width))
    x, noise, *turns = (torch.randn(n, width, generator=draw).double() for n in (rows, rows, width, width))
    z = rho * x + math.sqrt(1 - rho**2) * noise
    return (
        tuple(side @ torch.linalg.qr(turn)[0] for side, turn in zip((x, z), turns, strict=True)) if rotated else (x, z)
    )


@pytest.mark.parametrize("width", [2, 8, 32])
@pytest.mark.parametrize("nats", [1.0, 2.0, 8.0, 20.0])
def test_gaussian_form_within_five_percent(width, nats):
    found = gaussian_information(*correlated(width, nats, rows=4000))
    assert found.nats == pytest.approx(nats, rel=0.05)
    assert found.in_range


def test_gaussian_form_has_no_bias_of_few_rows():
    """30 + 30 dimensions and 100 rows: the plain formula gives 8 nats where there are none."""
    found = [gaussian_information(*correlated(30, 0.0, rows=100, seed=seed)).nats for seed in range(40)]
    x, z = correlated(30, 0.0, rows=100)
    plain = sum(torch.logdet(torch.cov(side.T)) for side in (x, z)) - torch.logdet(torch.cov(torch.cat([x, z], 1).T))
    assert plain / 2 > 5
    assert abs(np.mean(found)) < 3 * np.std(found) / 40**0.5 + 1e-9


def test_gaussian_form_reads_no_curve_and_no_units():
    x, z = correlated(2, 1.0, rows=2000)
    assert gaussian_information(1e-6 * x + 5, 1e6 * z).nats == pytest.approx(gaussian_information(x, z).nats)
    assert abs(gaussian_information(x, x**2).nats) < 0.05


@pytest.mark.parametrize("nats", [1.0, 2.0, 3.5])
def test_ksg_within_five_percent_where_it_says_so(nats):
    found = ksg_information(*correlated(2, nats, rows=5000))
    assert found.nats == pytest.approx(nats, rel=0.05)
    assert found.in_range
    assert found.ceiling == pytest.approx(math.log(5000) - 0.9228, abs=1e-3)  # psi(3) is 0.9228


def test_ksg_is_that_of_sklearn():
    """Which adds noise of 1e-10 and standardises; normal scores of Gaussians are nearly the same."""
    x, z = correlated(1, 1.0, rows=1000, rotated=False)
    expected = mutual_info_regression(x.numpy(), z[:, 0].numpy(), n_neighbors=3, random_state=0)[0]
    assert ksg_information(x, z).nats == pytest.approx(expected, abs=0.02)


def test_ksg_ceiling_is_reached_by_equal_vectors_and_flagged():
    x, _ = correlated(1, 1.0, rows=300)
    found = ksg_information(x, x)
    assert found.nats == pytest.approx(found.ceiling)
    assert not found.in_range


def test_ksg_flags_many_dimensions():
    found = ksg_information(*correlated(8, 2.0, rows=500))
    assert found.nats < 1.5
    assert not found.in_range


@pytest.mark.parametrize(("width", "nats", "rows"), [(2, 1.0, 6000), (2, 3.5, 6000), (8, 2.0, 6000)])
def test_neural_bound_within_five_percent_where_it_says_so(width, nats, rows):
    found = neural_information(*correlated(width, nats, rows), steps=20)
    assert found.nats == pytest.approx(nats, rel=0.05)
    assert found.in_range
    assert found.ceiling == pytest.approx(math.log(rows / 4))


@pytest.mark.parametrize("nats", [2.0, pytest.param(4.0, marks=pytest.mark.slow)])
def test_neural_bound_in_32_dimensions(nats):
    found = neural_information(*correlated(32, nats, rows=16_000), steps=50)
    assert found.nats == pytest.approx(nats, rel=0.05)
    assert found.in_range


@pytest.mark.parametrize(("width", "rows"), [(32, 1000), (32, 4000), (8, 1000)])
def test_neural_bound_flags_more_dimensions_than_the_rows_teach(width, rows):
    found = neural_information(*correlated(width, 2.0, rows), steps=10)
    assert found.nats < 0.95 * 2.0
    assert found.nats < found.reliable_from == 28 * width**2 / rows
    assert not found.in_range


def test_neural_bound_of_independent_vectors_is_right_in_nats_though_no_share_of_them():
    found = neural_information(*correlated(2, 0.0, rows=6000), steps=10)
    assert abs(found.nats) < found.reliable_from / 20 < 0.001
    assert found.reliable == found.ceiling / 2, "what it can say at most has not changed"
    assert not found.in_range


def test_neural_bound_bends_below_its_ceiling_and_says_so():
    found = neural_information(*correlated(2, 12.0, rows=800), steps=5)
    assert found.ceiling / 2 < found.nats <= found.ceiling
    assert not found.in_range


def test_a_curve_that_correlation_does_not_see():
    """z = |x| + noise of 0.3: 0.760 nats by numerical integration."""
    draw = torch.Generator().manual_seed(0)
    x, noise = torch.randn(4000, 1, generator=draw), torch.randn(4000, 1, generator=draw)
    z = x.abs() + 0.3 * noise
    grid, out = np.linspace(-8, 8, 1601), np.linspace(-2, 9, 1101)
    weight = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) * 0.01
    density = np.exp(-((out[:, None] - abs(grid)) ** 2) / 0.18) @ weight / (0.3 * math.sqrt(2 * math.pi))
    truth = -(density * np.log(density + 1e-300)).sum() * 0.01 - 0.5 * math.log(2 * math.pi * math.e * 0.09)
    assert abs(gaussian_information(x, z).nats) < 0.01
    assert ksg_information(x, z).nats == pytest.approx(truth, rel=0.05)
    assert neural_information(x, z, steps=100).nats == pytest.approx(truth, rel=0.1)


def test_monotone_maps_of_columns_change_nothing():
    x, z = correlated(2, 1.0, rows=1000)
    for estimate in (ksg_information, lambda x, z: neural_information(x, z, steps=2)):
        assert estimate(x, z**3).nats == pytest.approx(estimate(x.exp(), z).nats, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: gaussian_information(x, x[:9]), "row by row, got 50 and 9 rows"),
        (lambda x: gaussian_information(x[:4], x[:4]), "4 dimensions together: they need more"),
        (lambda x: gaussian_information(x, 2 * x), "information is infinite"),
        (lambda x: ksg_information(x, x * 0), "z has a constant column"),
        (lambda x: ksg_information(x, x, neighbours=50), "neighbours must be between 1 and rows - 1 = 49, got 50"),
        (lambda x: neural_information(x[:7], x[:7]), "at least 8 rows, got 7"),
        (lambda x: neural_information(x * 0, x), "x has a constant column"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))
