"""`align_encoders` on tiny encoders: what the result says is what the merge does."""

import inspect
import json

import pytest
import torch
from PIL import Image as Picture
from transformers import AutoModel, AutoProcessor, ViTModel

import otmerge_hf.alignment
from otmerge_hf.alignment import Procrustes, SinkhornProcrustes, align_encoders
from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.data import PairSplit
from otmerge_hf.features import embed, encode
from otmerge_hf.metrics import retrieval
from otmerge_hf.training import Refinement


COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def encoders(encoder_folders):
    return encoder_folders


def picture(left, right, shade):
    image = Picture.new("RGB", (32, 32), COLORS[left])
    image.paste(COLORS[right], (16, 0, 32, 32))
    image.paste((shade, shade, shade), (0, 31, 32, 32))
    return image


def split(shades, question=False):
    """Pictures of two colours, one for each shade of their last row, and what they show; two pictures share a text."""
    words = "is the {} shape {} ?" if question else "{} {}"
    names = [(left, right) for left in COLORS for right in COLORS]
    images = [picture(*name, shade) for shade in shades for name in names]
    texts = [words.format(*name) for name in names]
    pairs = torch.tensor([[i, i % len(names)] for i in range(len(images))])
    return PairSplit(images, texts, pairs)


@pytest.fixture
def splits():
    return {"train": split(range(4)), "validation": split([100], question=True), "test": split([200, 201])}


@pytest.fixture
def run(encoders, splits, tmp_path):
    def align(**options):
        return align_encoders(*encoders, splits, **{"cache_dir": tmp_path / "features", "batch_size": 8} | options)

    return align


def rows(result, split_, tmp_path):
    """Standardised mean features of a split, by the result's own model."""
    sides = []
    for side, inputs in (("context", split_.images), ("query", split_.texts)):
        store = encode(
            result.model, result.processor, side, inputs, cache_dir=tmp_path / "again", batch_size=8, progress=False
        )
        means = torch.stack(
            [tokens[mask.bool()].mean(0) for tokens, mask in zip(*store.batch(range(len(store))), strict=True)]
        )
        with torch.no_grad():
            sides.append(getattr(result.model, f"{side}_standardizer")(means))
    return sides


def test_scores_are_those_of_the_models(run, splits, tmp_path):
    result = run(fit="procrustes", shared_dim=8)
    stores = {
        side: encode(
            result.model, result.processor, side, inputs, cache_dir=tmp_path / "again", batch_size=8, progress=False
        )
        for side, inputs in (("context", splits["test"].images), ("query", splits["test"].texts))
    }
    found = retrieval(*(embed(result.model, store, side) for side, store in stores.items()), splits["test"].pairs)
    assert result.scores["test"] == pytest.approx(found)
    assert result.scores["test"]["query_to_context_recall@5"] > 0.5, "colours survive random encoders"
    assert result.scores["validation"]["mean_recall@1"] == pytest.approx(result.candidates[0].recall)
    assert result.model.config.shared_dim == result.fit.shared_dim_ == 8
    assert result.counts["train"] == {"images": 36, "texts": 9, "pairs": 36}
    assert result.preflight is None, "nine texts are nine pairs of distinct rows"
    assert "at least 20 pairs" in result.notes[0]
    assert "at least 20 pairs" in str(result)


@pytest.mark.parametrize("refit", [True, False])
def test_the_fit_is_that_of_the_rows_it_says(run, splits, tmp_path, refit):
    result = run(fit="procrustes", shared_dim=8, refit=refit)
    assert result.refitted is refit
    context, query = rows(result, splits["train"], tmp_path)
    pairs = splits["train"].pairs
    by_train = Procrustes(shared_dim=8).fit(context, query, pairs)
    more = rows(result, splits["validation"], tmp_path)
    # The validation score is always that of the fit before, on training pairs alone.
    assert by_train.score(*more, splits["validation"].pairs) == pytest.approx(
        result.scores["validation"]["mean_recall@1"]
    )
    expected = by_train
    if refit:
        joined = [torch.cat(side) for side in zip((context, query), more, strict=True)]
        behind = splits["validation"].pairs + torch.tensor([len(context), len(query)])
        expected = Procrustes(shared_dim=8).fit(*joined, torch.cat([pairs, behind]))
        assert not torch.allclose(expected.rotation_, by_train.rotation_, atol=1e-3)
    found = result.fit.context_map_.weight.T @ result.fit.query_map_.weight
    torch.testing.assert_close(found.double(), expected.rotation_, atol=1e-4, rtol=1e-3)
    assert ("scores above are from before" in str(result)) is refit


def test_unpaired_rows_come_behind_the_pairs(run, splits, tmp_path):
    further = split(range(50, 54), question=True)
    images, texts = further.images[:20], further.texts
    result = run(fit="sinkhorn_procrustes", refit=False, unpaired_images=images, unpaired_texts=texts)
    assert result.counts["unpaired"] == {"images": 20, "texts": 9, "pairs": 0}
    context, query = rows(result, splits["train"], tmp_path)
    more = rows(result, PairSplit(images, texts, torch.zeros(0, 2)), tmp_path)
    expected = SinkhornProcrustes(**result.fit.get_params()).fit(
        torch.cat([context, more[0]]), torch.cat([query, more[1]]), splits["train"].pairs
    )
    products = [fit.context_map_.weight.T.double() @ fit.query_map_.weight.double() for fit in (result.fit, expected)]
    torch.testing.assert_close(*products, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(("texts", "noted"), [(0, True), (40, False)])
def test_unpaired_rows_that_no_fit_used_are_noted(run, splits, texts, noted):
    images = [image for image in split(range(50, 54)).images][:35]
    result = run(unpaired_images=images, unpaired_texts=[f"a {'red ' * n}" for n in range(texts)])
    notes = [note for note in result.notes if "no fit used them" in note]
    assert len(notes) == noted
    if noted:
        assert "35 images, 0 texts" in notes[0]
        assert "36 pairs and at least 0 unpaired rows a side the recommended fit is auto" in notes[0]
        assert notes[0] in str(result)


def test_saved_and_loaded_it_embeds_alike(run, splits, tmp_path):
    result = run(fit="cca")
    result.save(tmp_path / "merge")
    model = AutoModel.from_pretrained(tmp_path / "merge").eval()
    inputs = AutoProcessor.from_pretrained(tmp_path / "merge")(text=["red blue"], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model.get_query_embeds(**inputs), result.model.get_query_embeds(**inputs))
    results = json.loads((tmp_path / "merge" / "results.json").read_text())
    assert results["test"] == result.scores["test"]
    assert results["fit"] == repr(result.fit)
    assert results["images"] == {"train": 36, "validation": 9, "test": 18}


def test_every_input_is_encoded_once(run, splits, monkeypatch):
    seen = []
    original = ViTModel.forward

    def count(self, pixel_values=None, **options):
        seen.append(len(pixel_values))
        return original(self, pixel_values=pixel_values, **options)

    monkeypatch.setattr(ViTModel, "forward", count)
    run(fit="auto", batch_size=9)  # divides all splits
    probes = seen.count(1)  # one black image says how wide the tokens are
    assert sum(seen) - probes == sum(len(split_.images) for split_ in splits.values())


def test_each_encoder_is_loaded_once_and_shared_by_all_choices_of_tokens(encoders, monkeypatch):
    loaded = []
    original = AutoModel.from_pretrained.__func__

    def count(cls, source, **options):
        loaded.append(source)
        return original(cls, source, **options)

    monkeypatch.setattr(AutoModel, "from_pretrained", classmethod(count))
    pair = EncoderPair(*encoders, {"context": ["last_hidden_state", "cls", 1], "query": ["last_hidden_state", 0]})
    assert (pair.widths("context"), pair.widths("query")) == ([16, 16, 16], [16, 16])
    tokens = {"context": "cls", "query": 0}
    models = [pair.probe(tokens), pair.probe({}), pair.build(tokens, shared_dim=6)]
    assert loaded == list(encoders)
    for side in ("context", "query"):
        assert len({id(getattr(model, f"{side}_encoder")) for model in models}) == 1
    assert [model.config.context_tokens for model in models] == ["cls", "last_hidden_state", "cls"]


def test_the_package_shows_the_function_and_the_module_has_another_name():
    assert callable(otmerge_hf.alignment.align_encoders)
    assert inspect.ismodule(otmerge_hf.alignment.align)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "magic"}, "fit must be one of auto, procrustes, cca, ridge, .*; got 'magic'"),
        (
            {"fit": "ridge", "unpaired_texts": ["red"]},
            "fit 'ridge' does not use unpaired_texts; fits that do are auto",
        ),
        ({"fit": "wasserstein_procrustes"}, "needs unpaired rows on both sides; unpaired_images is empty"),
        ({"fit": "cca", "shared_dim": 17}, "shared_dim must be between 1 and 16"),
        ({"context_tokens": ["mean"]}, "`context_tokens` is 'mean'"),
        ({"image_size": 64}, "image_size is for efficientnet-lite0"),
    ],
)
def test_bad_choices_are_named_before_anything_is_encoded(run, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)
    assert not (tmp_path / "features").exists()


def test_a_missing_split_is_named(encoders, splits, tmp_path):
    del splits["validation"]
    with pytest.raises(ValueError, match="splits must have train, validation, test; validation is missing"):
        align_encoders(*encoders, splits, cache_dir=tmp_path)


def test_refining_begins_again_at_the_fit_of_both_splits(run):
    calls = []

    def refine(model, train, validation, steps=7):
        calls.append((model.context_adapter.map.weight.clone(), len(train[2]), validation is None, steps))
        return Refinement(5, 0.1, 0.2, 0.0)

    plain = {refit: run(fit="procrustes", shared_dim=8, refit=refit) for refit in (False, True)}
    result = run(fit="procrustes", shared_dim=8, refine=refine)
    (first, few, *_), (again, both, unseen, steps) = calls
    assert torch.equal(first, plain[False].model.context_adapter.map.weight)
    assert torch.equal(again, plain[True].model.context_adapter.map.weight)
    assert (few, both, unseen, steps) == (36, 45, True, 5)
    assert result.refinement.after == 0.2
