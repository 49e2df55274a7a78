"""Section 2 of docs/theory.md: what can be known from marginals, from few pairs, from structure."""

from itertools import permutations
from math import pi

import pytest
import torch

from otmerge_hf.alignment import Procrustes, Ridge
from otmerge_hf.losses import gromov_loss, mmd_loss, paired_loss, sinkhorn_loss, variance_loss
from otmerge_hf.losses.gromov import entropic_plan
from otmerge_hf.metrics import retrieval
from otmerge_hf.transport import sliced_wasserstein, wasserstein2

from .draws import normal, orthogonal, positive_definite, power


def test_two_pairings_have_equal_clouds_and_equal_losses():
    x = normal(24, 8, seed=1)
    y = x + 0.1 * normal(24, 8, seed=2)
    other = y.roll(1, 0)  # row i now belongs to row i + 1: wrong everywhere
    for loss in (
        sinkhorn_loss,
        mmd_loss,
        gromov_loss,
        wasserstein2,
        lambda a, b: sliced_wasserstein(a, b, generator=torch.Generator().manual_seed(0)),
    ):
        torch.testing.assert_close(loss(x, y), loss(x, other), rtol=1e-4, atol=1e-7)
    assert retrieval(x, y)["mean_recall@1"] == 1.0
    assert retrieval(x, other)["mean_recall@1"] == 0.0
    assert paired_loss(x, other) > 50 * paired_loss(x, y)  # pairs tell them apart


def test_linear_maps_between_gaussians_are_free_up_to_a_rotation():
    d = 5
    source, target = positive_definite(d, seed=1), positive_definite(d, seed=2)
    for seed in range(3):  # every rotation gives one
        found = power(target, 0.5) @ orthogonal(d, seed) @ power(source, -0.5)
        torch.testing.assert_close(found @ source @ found.T, target)
    # and there are no others: freedom of the equation A source A^T = target about a solution, by its linearisation
    steps = torch.eye(d * d, dtype=torch.float64).reshape(-1, d, d)
    change = steps @ source @ found.T
    rank = torch.linalg.matrix_rank((change + change.mT).reshape(d * d, -1))
    assert d * d - rank == d * (d - 1) // 2


def test_attraction_alone_is_satisfied_by_a_constant_map():
    x, y = torch.zeros(16, 4), torch.zeros(16, 4)
    for loss in (paired_loss, sinkhorn_loss, mmd_loss, gromov_loss):
        assert loss(x, y).abs() < 1e-6
    assert variance_loss(x) > 0.9  # a guard sees it


@pytest.mark.parametrize("pairs", [3, 5, 6, 7])
def test_few_pairs_leave_a_rotation_of_the_rest(pairs):
    d, truth = 6, orthogonal(6, seed=3)
    x = normal(40, d, seed=4)
    y = x @ truth + 1.0
    centred = x[:pairs] - x[:pairs].mean(0)
    _, _, right = torch.linalg.svd(centred)
    unseen = right[pairs - 1 :]  # directions that the pairs say nothing about
    assert len(unseen) == d - pairs + 1
    other = (torch.eye(d, dtype=torch.float64) - 2 * unseen.T @ unseen) @ truth  # orthogonal too
    torch.testing.assert_close(centred @ other, centred @ truth)
    fit = Procrustes().fit(x[:pairs], y[:pairs])
    torch.testing.assert_close(centred @ fit.rotation_, centred @ truth)
    if pairs == d + 1:
        torch.testing.assert_close(fit.rotation_, truth)
    else:
        assert (other - truth).norm() > 1
    if pairs == d:  # one direction is unseen: its sign is open, and nothing else
        nearest = min((fit.rotation_ - truth).norm(), (fit.rotation_ - other).norm())
        assert nearest < 1e-6


def test_error_of_a_fit_by_its_free_numbers():
    d, pairs, noise, runs = 12, 200, 0.3, 25
    truth = orthogonal(d, seed=5)
    errors = []
    for seed in range(runs):
        x = normal(pairs, d, seed=2 * seed)
        y = x @ truth + noise * normal(pairs, d, seed=2 * seed + 1)
        weight = Ridge(alpha=0.0).fit(x, y).context_map_.weight
        errors.append([(m - truth).square().sum() for m in (Procrustes().fit(x, y).rotation_, weight.T)])
    orthogonal_error, linear_error = torch.tensor(errors).mean(0).tolist()
    assert orthogonal_error == pytest.approx(noise**2 * d * (d - 1) / (2 * pairs), rel=0.1)
    assert linear_error == pytest.approx(noise**2 * d**2 / (pairs - d - 2), rel=0.05)


def distortions(x, y):
    """Gromov-Wasserstein cost of each of the N! pairings of two clouds, (N!,)."""
    inner_x, inner_y = torch.cdist(x, x), torch.cdist(y, y)
    orders = torch.tensor(list(permutations(range(len(x)))))
    return (inner_x - inner_y[orders[:, :, None], orders[:, None, :]]).square().mean((1, 2))


def polygon(corners):
    angles = 2 * pi * torch.arange(corners, dtype=torch.float64) / corners
    return torch.stack((angles.cos(), angles.sin()), 1)


def test_inner_distances_identify_pairs_up_to_symmetry():
    x = normal(6, 3, seed=6)
    moved = x @ orthogonal(3, seed=7) + 2.0
    assert gromov_loss(x, moved.flip(0), normalize=False).abs() < 1e-6
    assert (distortions(x, moved) < 1e-12).nonzero().flatten().tolist() == [0]  # the true pairing, and no other
    hexagon = polygon(6)
    assert (distortions(hexagon, hexagon) < 1e-12).sum() == 12  # its six turns, each with or without a reflection


def test_a_descent_cannot_break_a_symmetry():
    inner = torch.cdist(polygon(6), polygon(6)).square() / 2
    plan, _ = entropic_plan(inner, inner, epsilon=0.01)
    torch.testing.assert_close(plan, torch.full_like(plan, 1 / 36))  # still the product it began from
    lopsided = normal(6, 3, seed=6)
    inner = torch.cdist(lopsided, lopsided).square() / 2
    plan, _ = entropic_plan(inner, inner, epsilon=0.05)
    assert plan.diagonal().sum() > 0.9  # without a symmetry it can leave
