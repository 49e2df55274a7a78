import numpy as np
import pytest
import torch

from otmerge_hf.alignment import Procrustes, WassersteinProcrustes
from otmerge_hf.alignment.clusters import kmeans, match_by_structure


SMALL = {"clusters": 25, "restarts": 5, "iterations": 15, "batch_size": 400}


def test_aligns_without_any_pair(clusters):
    context, query = clusters
    # Disjoint items, in another order, in another frame.
    fit = WassersteinProcrustes(**SMALL | {"restarts": 12}).fit(context[:1000], query[1000:].flip(0))
    with_pairs = Procrustes().fit(context, query).score(context[:200], query[:200])
    assert fit.n_pairs_ == 0
    assert fit.score(context[:200], query[:200]) > 0.8 * with_pairs
    # The right start shows by its cost, so a user can tell success from failure without pairs.
    assert fit.costs_[0] < 0.6 * np.median(fit.costs_[:-1])


def test_gaussian_clouds_carry_no_shape(clusters):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(600, 10, generator=generator)
    fit = WassersteinProcrustes(**SMALL).fit(points[:300], points[300:].flip(1))
    assert fit.score(points[:200], points[:200].flip(1)) < 0.1
    assert fit.costs_[0] > 0.7 * np.median(fit.costs_[:-1])


def test_pairs_give_a_start_and_keep_their_weight(clusters):
    context, query = clusters
    pairs = torch.arange(12)[:, None].expand(-1, 2)
    free = torch.cat([torch.arange(12), 1000 + torch.randperm(1000, generator=torch.Generator().manual_seed(1))])
    fit = WassersteinProcrustes(**SMALL | {"restarts": 1}).fit(context[:1000], query[free], pairs)
    alone = Procrustes().fit(context, query, pairs).score(context[:200], query[:200])
    assert fit.n_pairs_ == 12
    assert fit.score(context[:200], query[:200]) > max(0.7, alone)


def test_unequal_widths_and_a_narrow_shared_space(clusters):
    context, query = clusters
    fit = WassersteinProcrustes(shared_dim=8, **SMALL).fit(context[:600], query[600:, :20])
    assert fit.context_map_.weight.shape == (8, 24)
    assert fit.query_map_.weight.shape == (8, 20)
    torch.testing.assert_close(fit.query_map_.weight @ fit.query_map_.weight.T, torch.eye(8).double())


def test_kmeans_finds_separated_clusters():
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    points = centres.repeat(20, 1) + torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    found, share = kmeans(points, 3, torch.Generator().manual_seed(0))
    assert torch.cdist(centres, found).min(1).values.max() < 1
    torch.testing.assert_close(share, torch.full((3,), 1 / 3))


def test_kmeans_survives_duplicates_and_refuses_too_few_points():
    _, share = kmeans(torch.ones(6, 2), 3, torch.Generator().manual_seed(0))
    assert share.sum() == 1
    with pytest.raises(ValueError, match="at least 3 points for 3 clusters, got 2"):
        kmeans(torch.ones(2, 2), 3, torch.Generator().manual_seed(0))


def test_structure_matching_recovers_a_permutation_across_a_rotation():
    points = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0][:4]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    found, value = match_by_structure(points, (points @ rotation)[order], np.random.default_rng(0), starts=10)
    assert value == pytest.approx(1.0)
    assert torch.equal(order[found], torch.arange(9))


def test_same_seed_same_fit(clusters):
    first, second = (WassersteinProcrustes(**SMALL | {"restarts": 1}).fit(*clusters) for _ in range(2))
    assert torch.equal(first.context_map_.weight, second.context_map_.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pair_weight": 1.0}, "pair_weight must be"),
        ({"clusters": 1}, "clusters must be at least 2, got 1"),
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        WassersteinProcrustes(**arguments)


def test_too_few_points(clusters):
    with pytest.raises(ValueError, match="query has 10 rows without a pair, fewer than clusters=30"):
        WassersteinProcrustes().fit(clusters[0], clusters[1][:10])
