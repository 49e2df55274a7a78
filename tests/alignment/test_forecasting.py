import math

import pytest
import torch

from otmerge_hf.alignment import forecast, preflight
from otmerge_hf.alignment.binormal import posterior, recalls
from otmerge_hf.alignment.forecasting import closed_forms


def planted(rows, noise, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(rows, 16, generator=generator)
    sides = []
    for width in (40, 30):
        frame = torch.linalg.qr(torch.randn(width, width, generator=generator))[0][:16]
        sides.append(latent @ frame + noise * torch.randn(rows, width, generator=generator))
    return sides


def measured(found, context, query, pairs, candidates):
    fit = next(fit for fit in closed_forms() if repr(fit) == found.fit)
    sides = [(side - side[:pairs].mean(0)) / side[:pairs].std(0) for side in (context, query)]
    fit.fit(*(side[:pairs] for side in sides))
    scores = [
        fit.score(*(side[start : start + candidates] for side in sides)) for start in range(2000, 5000, candidates)
    ]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("noise", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("candidates", [100, 1000])
def test_forecast_is_near_what_is_measured(noise, candidates):
    context, query = planted(5000, noise)
    found = forecast(context[:300], query[:300], candidates=candidates)
    assert found.recall[1] == pytest.approx(measured(found, context, query, 300, candidates), abs=0.07)
    assert found.recall[1] <= found.recall[5] <= found.recall[10]
    reached = measured(found, context, query, 1200, candidates)
    assert found.with_pairs(1200) == pytest.approx(reached, abs=0.12)


def test_shuffled_pairs_are_forecast_chance():
    context, query = planted(300, 0.3)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    found = forecast(context, query[order], candidates=200)
    assert 0.5 < found.recall[1] * 200 < 2
    assert found.needed(0.5) is None


def test_needed_pairs_are_those_whose_forecast_it_is():
    context, query = planted(200, 0.5)
    found = forecast(context, query, candidates=500)
    wanted = found.with_pairs(400)
    needed = found.needed(wanted)
    assert needed.pairs == pytest.approx(400, rel=0.15)
    assert needed.low <= needed.pairs <= needed.high
    assert found.needed(0.9999) is None
    with pytest.raises(ValueError, match="pairs is 1601; expected 1 to 1600"):
        found.with_pairs(1601)
    with pytest.raises(ValueError, match="recall is 1; expected a number between 0 and 1"):
        found.needed(1)


def test_model_recovers_its_own_recall():
    """Counts drawn from known shares: the share of rows without a better one among N - 1, by simulation."""
    generator = torch.Generator().manual_seed(0)
    z = 2.0 + 0.8 * torch.randn(4000, generator=generator, dtype=torch.float64)
    p = torch.special.ndtr(-z)
    above = torch.binomial(torch.full_like(p, 60), p, generator=generator)
    said = recalls(posterior(above, 60, generator), 500, [1, 10]).median(1).values
    counts = torch.binomial(torch.full_like(p, 499), p, generator=generator)
    for value, k in zip(said, (1, 10), strict=True):
        assert float(value) == pytest.approx((counts < k).double().mean().item(), abs=0.02)


def test_chance_is_exact_where_nothing_is_shared():
    for candidates in (2, 50, 1000):
        found = recalls(torch.zeros(1, 2, dtype=torch.float64), candidates, [1, min(5, candidates)])
        assert found[:, 0].tolist() == pytest.approx([1 / candidates, min(5, candidates) / candidates], rel=0.05)


def test_unpaired_rows_are_distractors_and_further_captions_are_not():
    context, query = planted(400, 0.5)
    pairs = torch.arange(60)[:, None].expand(-1, 2)
    with_rest = forecast(context, query, pairs, candidates=300)
    assert with_rest.pairs == 60
    assert with_rest.recall != forecast(context[:60], query[:60], candidates=300).recall
    captions = torch.stack([torch.arange(120) // 2, torch.arange(120)], dim=1)
    twice = query[:60].repeat_interleave(2, dim=0)  # the second caption would tie with every first one
    assert forecast(context[:60], twice, captions, candidates=300).recall[1] > 0.5 * with_rest.recall[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": torch.randn(39, 4), "query": torch.randn(39, 4)}, "forecast needs at least 40 distinct pairs"),
        ({"pairs": [(0, i) for i in range(50)]}, "at least 40 pairs of distinct rows, got 1"),
        ({"candidates": 1}, "candidates is 1; expected at least 2"),
        ({"ks": (0,)}, "ks is .*; expected depths of at least 1"),
        ({"max_pairs": 10}, "at least 40 pairs of distinct rows, got 10"),
        ({"query": torch.full((50, 4), math.nan)}, "query has NaN or infinity, first in row 0"),
    ],
)
def test_bad_input(change, message):
    usual = {"context": torch.randn(50, 4), "query": torch.randn(50, 4), "pairs": None, "candidates": 100} | change
    sides = usual.pop("context"), usual.pop("query"), usual.pop("pairs")
    with pytest.raises(ValueError, match=message):
        forecast(*sides, **usual)


def test_preflight_shows_it():
    context, query = planted(200, 0.5)
    report = preflight(context, query, shuffles=2)
    assert report.forecast.candidates == 1000
    assert str(report.forecast) in str(report)
    assert report.forecast.recall == forecast(context, query, candidates=1000, max_pairs=1000).recall
    few = preflight(context[:30], query[:30], shuffles=2)
    assert few.forecast is None
    assert "Forecast" not in str(few)
