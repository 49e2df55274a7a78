import pytest
import torch

from otmerge_hf.alignment import preflight, recommend
from otmerge_hf.metrics import linear_cka, mutual_knn


def test_finds_the_layers_that_share(noisy_clouds):
    context, query = noisy_clouds
    noise = torch.randn(600, 40, generator=torch.Generator().manual_seed(0)).double()
    blurred = context + 3 * noise
    report = preflight({"early": noise, "middle": blurred, "late": context}, {"first": query, "random": noise[:, :5]})
    assert (report.best.context_layer, report.best.query_layer) == ("late", "first")
    assert len(report.layers) == 6
    assert not report.share_little
    assert report.best.mutual_knn > 3 * report.best.knn_baseline
    assert max(report.held_out.values()) > 20 * report.chance
    assert "Recommended layers: context late, query first" in str(report)
    assert "share structure" in str(report)


@pytest.mark.parametrize("seed", range(5))
def test_says_so_when_encoders_share_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(200, 16, generator=generator) for _ in range(8)]
    report = preflight(layers[:4], layers[4:])
    assert report.share_little
    assert "These two encoders share little" in str(report)
    assert abs(report.best.cka) < 0.1


def test_same_shape_wrong_pairs_share_nothing(noisy_clouds):
    context, query = noisy_clouds
    assert preflight(context, query.roll(1, dims=0)).share_little


def test_numbers_are_those_of_the_metrics(noisy_clouds):
    context, query = (side[:200] for side in noisy_clouds)
    report = preflight([context], [query], k=5)
    standard = [(side - side.mean(0)) / side.std(0) for side in (context, query)]
    assert report.best.mutual_knn == pytest.approx(mutual_knn(*standard, k=5))
    assert report.best.cka == pytest.approx(linear_cka(*standard, debiased=True))


def test_repeated_captions_do_not_help():
    # Each context row is paired with ten query rows; the ten are one item, and only one is looked at.
    generator = torch.Generator().manual_seed(0)
    context, query = torch.randn(40, 8, generator=generator), torch.randn(400, 8, generator=generator)
    pairs = torch.stack([torch.arange(400) // 10, torch.arange(400)], dim=1)
    report = preflight(context, query, pairs)
    assert (report.n_pairs, report.n_sampled) == (400, 40)
    assert report.share_little


def test_recommends_by_pairs_and_by_rows_without_a_pair(noisy_clouds):
    context, query = noisy_clouds
    pairs = torch.arange(100)[:, None].expand(-1, 2)
    for rows, expected in ((100, recommend(100)), (600, recommend(100, unpaired=500))):
        report = preflight(context[:rows], query[:rows], pairs)
        assert report.recommendation == expected
        assert str(report).endswith(str(expected))
    assert recommend(100) != recommend(100, unpaired=500)


@pytest.mark.parametrize(
    ("context", "query", "pairs", "message"),
    [
        (torch.randn(10, 3), torch.randn(10, 3), None, "at least 20 pairs of distinct rows, got 10"),
        ([], torch.randn(30, 3), None, "context_features has no layer"),
        ([torch.randn(30, 3), torch.randn(29, 3)], torch.randn(30, 3), None, "same rows in every layer"),
        (torch.randn(30, 4, 3), torch.randn(30, 3), None, r"context_features\['0'\] must be \(rows, features\)"),
        (torch.randn(30, 3), torch.randn(31, 3), None, "pairs is None"),
    ],
)
def test_bad_input(context, query, pairs, message):
    with pytest.raises(ValueError, match=message):
        preflight(context, query, pairs)
