"""sentence-transformers loads what is exported, and encodes as the merge does."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from otmerge_hf import OTMergeAudioProcessor, OTMergeModel, OTMergeTextProcessor
from otmerge_hf.metrics import nearest_neighbours
from otmerge_hf.model.modality import SIDES


QUESTIONS = ["is", "what color is the shape ?", "is there a red shape ? yes yes no no", "green"]


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("sentence_transformers")


@torch.no_grad()
def fitted(model, processor, **inputs):
    """Standardise by statistics of these inputs' features, not so far that little but rounding is left of some."""
    base = getattr(model, "otmerge", model)
    for side, given in zip(SIDES, base.read_inputs(processor(**inputs, return_tensors="pt")), strict=True):
        if not base.config.standardize:
            continue
        tokens, _ = base.encode(side, *given[:3])
        base.fit_standardization(**{side: (tokens.mean(dim=(0, 1)) / 2, tokens.std(dim=(0, 1)).clamp(min=0.3))})
    return model


@pytest.fixture
def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in noise]


@pytest.fixture
def exported(merge, processor, pictures, tmp_path, library):
    def make(**config):
        model = merge(cls=OTMergeModel, **{"adapter_type": "linear"} | config)
        fitted(model, processor, images=pictures, text=QUESTIONS)
        folder = model.export_sentence_transformers(tmp_path / "st", processor=processor)
        return model, library.SentenceTransformer(str(folder), device="cpu")

    return make


def embed(model, processor, side, inputs):
    with torch.no_grad():
        batch = processor(**{"images" if side == "context" else "text": inputs}, return_tensors="pt")
        return nn.functional.normalize(getattr(model, f"get_{side}_embeds")(**batch), dim=-1)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"adapter_type": "mlp"},
        {"adapter_type": "orthogonal", "shared_dim": 8},
        {"adapter_type": "monge", "context_tokens": 1, "query_tokens": "cls"},
        {"adapter_type": "mlp", "context_tokens": "cls", "query_tokens": 1},
        {"standardize": False, "context_tokens": "pooled", "query_tokens": "pooled"},
    ],
    ids=lambda config: ",".join(map(str, config.values())) or "linear",
)
def test_encode_gives_the_merges_embeddings(exported, processor, pictures, config):
    model, theirs = exported(**config)
    for side, inputs in (("query", QUESTIONS), ("context", pictures)):
        ours = embed(model, processor, side, inputs)
        torch.testing.assert_close(theirs.encode(inputs, convert_to_tensor=True), ours, atol=1e-5, rtol=0)
        assert (ours[0] - ours[1]).abs().max() > 2e-4  # they do differ


def test_their_evaluator_and_faiss_rank_as_the_merge_does(exported, processor, pictures):
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    faiss = pytest.importorskip("faiss")
    model, theirs = exported()
    index = faiss.IndexFlatIP(theirs.get_embedding_dimension())
    index.add(theirs.encode(pictures))
    _, found = index.search(theirs.encode(QUESTIONS), len(pictures))
    ours = embed(model, processor, "context", pictures)
    _, expected = nearest_neighbours(embed(model, processor, "query", QUESTIONS), ours, k=len(pictures))
    np.testing.assert_array_equal(found, expected)

    corpus = {str(row): picture for row, picture in enumerate(pictures)}
    first = {str(row): {str(int(expected[row, 0]))} for row in range(len(QUESTIONS))}
    second = {str(row): {str(int(expected[row, 1]))} for row in range(len(QUESTIONS))}
    for relevant, rank in ((first, 1), (second, 2)):
        evaluator = InformationRetrievalEvaluator(
            {str(row): text for row, text in enumerate(QUESTIONS)}, corpus, relevant, mrr_at_k=[3]
        )
        found = evaluator(theirs)
        assert found["cosine_mrr@3"] == pytest.approx(1 / rank)


def test_one_side_alone(merge, processor, tmp_path, library):
    model = merge(adapter_type="linear")  # with an answer head, which stays out
    folder = model.export_sentence_transformers(tmp_path / "st", processor, sides=["query"])
    theirs = library.SentenceTransformer(str(folder), device="cpu")
    ours = embed(model.otmerge, processor, "query", QUESTIONS)
    torch.testing.assert_close(theirs.encode(QUESTIONS, convert_to_tensor=True), ours, atol=1e-5, rtol=0)
    assert [type(module).__name__ for module in theirs] == ["Transformer", "Pooling", "Dense", "Normalize"]


def test_two_sides_of_text(merge, tokenizer, tmp_path, library):
    model, processor = (
        merge("bert", adapter_type="linear", cls=OTMergeModel),
        OTMergeTextProcessor(tokenizer, tokenizer),
    )
    fitted(model, processor, context_text=QUESTIONS[:2], text=QUESTIONS)
    folder = model.export_sentence_transformers(tmp_path / "st", processor)
    theirs = library.SentenceTransformer(str(folder), device="cpu")
    with torch.no_grad():
        batch = processor(context_text=QUESTIONS, text=QUESTIONS, return_tensors="pt")
        query, context = model.get_query_embeds(**batch), model.get_context_embeds(**batch)
    for ours, encode in ((query, theirs.encode_query), (context, theirs.encode_document), (query, theirs.encode)):
        expected = nn.functional.normalize(ours, dim=-1)
        torch.testing.assert_close(encode(QUESTIONS, convert_to_tensor=True), expected, atol=1e-5, rtol=0)


def test_what_their_modules_cannot_express_is_refused(
    merge, processor, tokenizer, feature_extractor, tmp_path, library
):
    flow, sound = merge(adapter_type="coupling"), merge("wav2vec2", adapter_type="linear")
    with pytest.raises(ValueError, match=r"`query_tokens` is 0\+-1: their Transformer hands out one hidden layer"):
        merge(query_tokens="0+-1", adapter_type="linear").export_sentence_transformers(tmp_path / "joined", processor)
    with pytest.raises(ValueError, match="an adapter of type `coupling` is no chain"):
        flow.export_sentence_transformers(tmp_path / "st", processor)
    hears = OTMergeAudioProcessor(feature_extractor("wav2vec2"), tokenizer)
    with pytest.raises(ValueError, match=r"the context is a sound \(input_values\)"):
        sound.export_sentence_transformers(tmp_path / "st", hears)
    assert not (tmp_path / "st").exists()


def test_other_embeddings_are_refused(merge, processor, tmp_path, library, monkeypatch):
    """As where an encoder of theirs computes another thing than ours."""
    model = merge(adapter_type="linear")
    plain = type(model.otmerge).get_query_embeds
    monkeypatch.setattr(type(model.otmerge), "get_query_embeds", lambda self, **batch: plain(self, **batch) + 0.01)
    with pytest.raises(ValueError, match="other embeddings of the query encoder, a `bert`"):
        model.export_sentence_transformers(tmp_path / "st", processor)
    assert not (tmp_path / "st").exists()


def test_bad_arguments_are_named(merge, processor, tmp_path, monkeypatch):
    model = merge(adapter_type="linear")
    (tmp_path / "config.json").touch()
    with pytest.raises(ValueError, match=r"`directory` .* not empty"):
        model.export_sentence_transformers(tmp_path, processor)
    with pytest.raises(ValueError, match=r"`sides` is \('image',\); expected one or both of context, query"):
        model.export_sentence_transformers(tmp_path / "st", processor, sides=("image",))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r"otmerge-hf\[sentence-transformers\]"):
        model.export_sentence_transformers(tmp_path / "st", processor)
