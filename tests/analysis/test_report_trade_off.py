"""A merge's own point beside a curve: what stands on it, what keeps everything, and what is too little to show."""

import io

import pytest
import torch
from PIL import Image

from otmerge_hf import OTMergeModel
from otmerge_hf.alignment import CCA
from otmerge_hf.analysis.report_trade_off import about_trade_off, trade_offs
from otmerge_hf.data import PairSplit
from otmerge_hf.features import compute_features, embed, mean_features
from otmerge_hf.metrics import retrieval


ROWS, DIM = 64, 16


@pytest.fixture
def stores(tmp_path):
    """Each side's tokens lie around a point of one latent space, turned and scaled anew for each side."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(ROWS, DIM, generator=generator)
    made = {}
    for side, count in (("context", 9), ("query", 5)):
        turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator))[0] * torch.linspace(3, 0.3, DIM)
        around = latent[:, None] + 0.7 * torch.randn(ROWS, count, DIM, generator=generator)
        rows = around @ turn.T
        encode = lambda names, rows=rows: (rows[[int(name) for name in names]], None)  # noqa: E731
        names = [str(i) for i in range(ROWS)]
        made[side] = compute_features(encode, names, cache_dir=tmp_path, key={"side": side}, progress=False)
    return made


@pytest.fixture
def standardised(merge, stores):
    def make(**options):
        model = merge(cls=OTMergeModel, **options)
        model.fit_standardization(**{side: store.statistics() for side, store in stores.items()})
        return model

    return make


PAIRS = torch.arange(ROWS)[:, None].expand(-1, 2)


def test_a_merge_that_is_the_fit_stands_on_the_curve(standardised, stores):
    model = standardised(adapter_type="linear", shared_dim=8)
    means = [getattr(model, f"{side}_standardizer")(mean_features(store)) for side, store in stores.items()]
    model.load_alignment(CCA(0.3, shared_dim=8).fit(*means, PAIRS[::2]), standardized=True)
    (own,), cut, curve = trade_offs(model, stores, PAIRS).values()
    (same,) = [point for point in curve if point.width == 8]
    assert own.recall == pytest.approx(same.recall)
    assert own.kept == pytest.approx(same.kept, abs=1e-4)
    assert own.ways == dict.fromkeys(stores, "fitted")
    assert [point.width for point in cut] == [2, 4]
    for fewer, other in zip(cut, curve, strict=False):
        assert abs(fewer.recall - other.recall) < 0.15, "the directions that agree most are CCA's first"


def test_recall_is_of_the_half_that_nothing_was_fitted_on_and_wider_keeps_more(standardised, stores):
    model = standardised(adapter_type="linear", shared_dim=20)
    (own,), cut, curve = trade_offs(model, stores, PAIRS).values()
    images, texts = (embed(model, store, side)[1::2] for side, store in stores.items())
    assert own.recall == pytest.approx(retrieval(images, texts)["mean_recall@1"])
    assert (own.width, own.ways) == (20, dict.fromkeys(stores, "by the inverse"))
    assert own.kept == pytest.approx(dict.fromkeys(stores, 1.0), abs=1e-4)
    assert [point.width for point in cut] == [point.width for point in curve] == [2, 4, 8, 16]
    for line in ([*cut, own], curve):
        for side in stores:
            kept = [point.kept[side] for point in line]
            assert kept == sorted(kept)
            assert kept[0] < 0.5
            assert kept[-1] > 0.99
    assert curve[2].recall > 5 / 32, "far above guessing"


def test_what_is_kept_is_that_of_scikit_learn(standardised, stores):
    from sklearn.linear_model import LinearRegression
    from sklearn.metrics import r2_score

    model = standardised(adapter_type="mlp", shared_dim=6)
    (own,), *_ = trade_offs(model, stores, PAIRS).values()
    for side, store in stores.items():
        tokens, _ = store.batch(range(ROWS))
        tokens = getattr(model, f"{side}_standardizer")(tokens).detach()
        with torch.no_grad():
            shared = getattr(model, f"{side}_adapter")(tokens)
        fitted = LinearRegression().fit(shared[::2].flatten(0, 1), tokens[::2].flatten(0, 1))
        truth = tokens[1::2].flatten(0, 1)
        expected = r2_score(truth, fitted.predict(shared[1::2].flatten(0, 1)), multioutput="variance_weighted")
        assert own.kept[side] == pytest.approx(expected, abs=0.02)


def test_the_picture_says_what_the_table_says(standardised, stores):
    split = PairSplit([f"{i}.png" for i in range(ROWS)], [str(i) for i in range(ROWS)], PAIRS)
    missing = []
    *_, picture, table = about_trade_off(standardised(adapter_type="linear", shared_dim=8), stores, split, missing)
    assert not missing
    assert picture.name == "trade-off.png"
    assert Image.open(io.BytesIO(picture.png)).size == (720, 960)
    cut, curve = [f"this merge, cut, {n}" for n in (2, 4)], [f"CCA, {n}" for n in (2, 4, 8, 16)]
    assert [row[0] for row in table.rows] == ["this merge, 8", *cut, *curve]
    for name, recall, image, text in (table.rows[0], *table.rows[1:4:2], table.rows[-1]):
        told = [f"{float(value.split(',')[0]):.2f}" for value in (image, text)]
        width = name.rsplit(" ", 1)[1]
        assert f"{float(recall):.3f} at {told[0]} and {told[1]} with {width}" in picture.alt


@pytest.mark.parametrize("pairs", [PAIRS[:19], torch.stack([torch.arange(64), torch.arange(64) % 19], dim=1), None])
def test_too_few_are_not_drawn(standardised, stores, pairs):
    split = pairs if pairs is None else PairSplit(["1.png"] * 64, ["a"] * 64, pairs)
    missing = []
    assert about_trade_off(standardised(adapter_type="linear"), stores, split, missing) == ()
    (line,) = missing
    assert line.startswith("Alignment against preservation: ")
    assert (
        "give `pairs`" if pairs is None else "19 distinct captions to test on are too few; 20 of each are the least"
    ) in line


EACH = torch.arange(ROWS)


@pytest.mark.parametrize(
    ("captions", "tokens", "told"),
    [
        (EACH * (EACH % 2), slice(None), "the maps are fitted on has 1 distinct captions with 5 distinct tokens"),
        (EACH * (1 - EACH % 2), slice(None), "is measured has 1 distinct captions with 5 distinct tokens"),
        (EACH, slice(0, 1), "the maps are fitted on has 32 distinct captions with 32 distinct tokens"),
    ],
)
def test_a_half_that_has_too_little_is_named(standardised, stores, tmp_path, captions, tokens, told):
    """Captions that lie in the other half alone, and queries of one token: enough in all is not enough."""
    rows, _ = stores["query"].batch(EACH)
    encode = lambda names: (rows[[int(name) for name in names], tokens], None)  # noqa: E731
    stores["query"] = compute_features(encode, [*map(str, EACH.tolist())], cache_dir=tmp_path / "f", key={})
    split = PairSplit(["1.png"] * ROWS, ["a"] * ROWS, torch.stack([EACH, captions], dim=1))
    missing = []
    assert about_trade_off(standardised(adapter_type="linear"), stores, split, missing) == ()
    assert missing == [
        f"Alignment against preservation: the half that {told}; 10 and 40 are the least. Give more pairs."
    ]
