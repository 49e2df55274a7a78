"""Section 1 of docs/theory.md: when transport finds the pairs."""

from itertools import combinations, permutations
from math import comb, log, pi

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import t as student

from otmerge_hf.losses import paired_loss
from otmerge_hf.transport import sinkhorn, wasserstein2

from .draws import normal, orthogonal, positive_definite


def squared_w2(x, y):
    return wasserstein2(x, y).item() ** 2


def best_pairing(x, y):
    """Which y each x gets in an optimal pairing, (N,)."""
    return torch.from_numpy(linear_sum_assignment(torch.cdist(x, y).square().numpy())[1])


def plan_of(x, y, epsilon):
    return sinkhorn(x, y, epsilon=epsilon, epsilon_scale="absolute", tol=1e-5, max_iterations=20_000).plan()


def test_paired_distance_bounds_transport_from_above():
    gaps = []
    for noise in (0.1, 1.0, 3.0):
        for seed in range(5):
            x = normal(64, 8, seed=seed)
            y = x + noise * normal(64, 8, seed=seed + 100)
            paired, transport = paired_loss(x, y).item(), squared_w2(x, y)
            assert transport <= paired * (1 + 1e-9)
            gaps.append(paired / transport - 1)
    assert max(gaps[:5]) < 1e-9  # little noise: the pairing is the optimal plan, and the bound is tight
    assert min(gaps[10:]) > 0.2  # much noise: it is neither


def test_a_pairing_is_optimal_exactly_when_it_is_cyclically_monotone():
    orders = [order for k in range(2, 6) for rows in combinations(range(5), k) for order in permutations(rows)]
    cycles = [order for order in orders if order[0] == min(order)]
    assert len(cycles) == 84
    outcomes = []
    for seed in range(60):
        x = normal(5, 2, seed=seed)
        y = x + 0.8 * normal(5, 2, seed=seed + 100)
        gain = max(sum(y[i] @ (x[j] - x[i]) for i, j in zip(c, (*c[1:], c[0]), strict=True)) for c in cycles)
        assert (gain.item() <= 0) == (squared_w2(x, y) > paired_loss(x, y).item() * (1 - 1e-9))
        outcomes.append(gain.item() <= 0)
    assert 10 < sum(outcomes) < 50  # both outcomes occurred


def test_linear_pairs_are_found_exactly_when_the_map_is_symmetric_positive():
    cloud = normal(40, 6, seed=1)
    symmetric = positive_definite(6, seed=2)
    assert squared_w2(cloud, cloud @ symmetric) == pytest.approx(paired_loss(cloud, cloud @ symmetric).item())
    turned = cloud @ orthogonal(6, seed=3)
    assert squared_w2(cloud, turned) < 0.7 * paired_loss(cloud, turned).item()
    # any map with an antisymmetric part fails on a polygon with corners enough: here from angle pi / corners on
    for corners in (5, 12, 60):
        angles = 2 * pi * torch.arange(corners, dtype=torch.float64) / corners
        for turn, found in ((0.98 * pi / corners, True), (1.02 * pi / corners, False)):
            x, y = (torch.stack((a.cos(), a.sin()), 1) for a in (angles, angles + turn))
            assert torch.equal(best_pairing(x, y), torch.arange(corners)) == found


def test_well_separated_pairs_survive_noise():
    x = torch.eye(20, dtype=torch.float64)  # all at the least distance: the hardest clouds for the bound
    separation, share = 2**0.5, 0.5  # share: q = n exp(-separation^2 / 8 noise^2)
    noise = separation / (8 * log(20 / share)) ** 0.5

    def lost(noise):
        runs = (best_pairing(x, x + noise * normal(20, 20, seed=seed)) for seed in range(400))
        return sum(not torch.equal(found, torch.arange(20)) for found in runs) / 400

    assert 0 < lost(noise) <= share**2 / 2 < lost(2**0.5 * noise)  # a constant 4 for the 8 would not do
    assert lost(2 * noise) > 0.9  # beyond the condition the pairs are lost


@pytest.mark.parametrize(("d", "noise"), [(4, 1.0), (16, 2.0), (64, 4.0)])
def test_share_of_pairs_that_would_rather_swap(d, noise):
    x = normal(1500, d, seed=5)
    y = x + noise * normal(1500, d, seed=6)
    gram = x @ y.T
    swapped = gram.diagonal()[:, None] + gram.diagonal()[None, :] < gram + gram.T  # <x_i - x_j, y_i - y_j> < 0
    share = swapped.triu(1).sum().item() / comb(1500, 2)
    assert share == pytest.approx(student.sf(d**0.5 / noise, d), rel=0.1)


def test_two_points_are_matched_by_a_logistic_curve():
    for seed in range(4):
        x, y = normal(2, 3, seed=seed), normal(2, 3, seed=seed + 10)
        overlap = (x[0] - x[1]) @ (y[0] - y[1])
        for epsilon in (0.3, 1.0, 10.0):
            mass = plan_of(x, y, epsilon).diagonal().sum()
            torch.testing.assert_close(mass, torch.sigmoid(overlap / (2 * epsilon)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [2, 6])
def test_mass_on_the_pairs_grows_as_epsilon_falls(n):
    x = 2 * normal(n, 3, seed=7)
    y = x + 0.3 * normal(n, 3, seed=8)
    cost = torch.cdist(x, y).square() / 2
    costs = cost[torch.arange(n), torch.tensor(list(permutations(range(n))))].mean(1)
    assert costs.argmin() == 0  # the identity comes first
    gap = (costs.sort().values[1] - costs[0]).item()
    for share in (0.5, 0.2, 0.1):  # of the epsilon at which the bound says nothing
        epsilon = share * gap / log(n)
        plan = plan_of(x, y, epsilon)
        assert plan.diagonal().sum() >= 1 - share - 1e-4
        assert costs[0] - 1e-4 <= (plan * cost).sum() <= costs[0] + epsilon * log(n)
    torch.testing.assert_close(plan_of(x, y, 1e6), torch.full_like(cost, n**-2), rtol=1e-3, atol=0)
