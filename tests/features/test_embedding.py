"""One way from a store to shared embeddings, and a collator of means that trains affine adapters alike."""

import pytest
import torch

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.features import FeatureCollator, compute_features, embed
from otmerge_hf.features.embedding import AFFINE_ADAPTERS
from otmerge_hf.losses import ContrastiveTerm, PairedTerm, SinkhornTerm, VarianceTerm
from otmerge_hf.model.configuration_otmerge import ADAPTER_TYPES


ROWS, DIM = 19, 16


@pytest.fixture
def stores(tmp_path):
    """Rows of one to four tokens; padding holds nonsense."""

    def make(side, seed):
        generator = torch.Generator().manual_seed(seed)
        rows = [3 + 2 * torch.randn(1 + i % 4, DIM, generator=generator) for i in range(ROWS)]

        def encode(names):
            picked = [rows[int(name)] for name in names]
            tokens = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True, padding_value=1e4)
            lengths = torch.tensor([len(row) for row in picked])
            return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]

        names = [str(i) for i in range(ROWS)]
        return compute_features(encode, names, cache_dir=tmp_path, key={"side": side}, batch_size=4, progress=False)

    return {"context": make("context", 0), "query": make("query", 1)}


@pytest.fixture
def standardised(merge, stores):
    """`standardised(adapter_type, cls)`: a merge with the stores' statistics."""

    def make(adapter_type, cls=OTMergeModel):
        model = merge(cls=cls, adapter_type=adapter_type)
        base = getattr(model, "otmerge", model)
        base.fit_standardization(**{side: store.statistics() for side, store in stores.items()})
        return model

    return make


def by_tokens(model, store, side):
    """What `forward` makes of every row's tokens."""
    features, mask = store.batch(range(ROWS))
    with torch.no_grad():
        return getattr(model, f"get_{side}_embeds")(**{f"{side}_features": features, f"{side}_features_mask": mask})


@pytest.mark.parametrize("side", ["context", "query"])
@pytest.mark.parametrize("adapter_type", ADAPTER_TYPES)
def test_equals_the_models_own_embeddings(standardised, stores, adapter_type, side):
    model = standardised(adapter_type)
    found = embed(model, stores[side], side, batch_size=7)
    assert found.shape == (ROWS, 16)
    assert not found.requires_grad
    torch.testing.assert_close(found, by_tokens(model, stores[side], side))


@pytest.mark.parametrize("adapter_type", ADAPTER_TYPES)
def test_affine_adapters_are_those_that_commute_with_the_mean(standardised, stores, adapter_type):
    model = standardised(adapter_type)
    features, mask = stores["query"].batch(range(ROWS))
    mean = (features * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    with torch.no_grad():
        commutes = torch.allclose(
            model.get_query_embeds(query_features=mean), by_tokens(model, stores["query"], "query"), atol=1e-5
        )
    assert commutes == (adapter_type in AFFINE_ADAPTERS)


@pytest.mark.parametrize("adapter_type", ["linear", "mlp"])
@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_takes_rows_in_the_order_asked_for(standardised, stores, adapter_type, kind):
    model, rows = standardised(adapter_type), [18, 0, 0, 5]
    everything = embed(model, stores["context"], "context")
    found = embed(model, stores["context"], "context", kind(rows), batch_size=3)
    torch.testing.assert_close(found, everything[rows])


def test_an_answering_model_embeds_with_its_merge(standardised, stores):
    model = standardised("linear", OTMergeForQuestionAnswering)
    torch.testing.assert_close(
        embed(model, stores["query"], "query"), embed(model.otmerge, stores["query"], "query"), rtol=0, atol=0
    )


def test_means_are_read_once_and_tokens_no_more(standardised, stores, monkeypatch):
    model, store = standardised("linear"), stores["query"]
    first = embed(model, store, "query")

    def no_tokens(ids):
        raise AssertionError("tokens were read")

    monkeypatch.setattr(store, "batch", no_tokens)
    assert torch.equal(embed(model, store, "query"), first)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"side": "image"}, ValueError, "side must be context or query; got 'image'"),
        ({"side": "query", "rows": []}, ValueError, "at least one row"),
        ({"side": "query", "rows": [0, ROWS]}, IndexError, f"row {ROWS} is out of range"),
        ({"side": "query", "batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
    ],
)
@pytest.mark.parametrize("adapter_type", ["linear", "mlp"])
def test_bad_input_is_named(standardised, stores, adapter_type, arguments, error, message):
    with pytest.raises(error, match=message):
        embed(standardised(adapter_type), stores["query"], **arguments)


@pytest.mark.parametrize("adapter_type", AFFINE_ADAPTERS)
@pytest.mark.parametrize(
    "term", [ContrastiveTerm(), PairedTerm(), SinkhornTerm(), VarianceTerm()], ids=lambda t: t.name
)
def test_a_step_on_means_has_the_gradient_of_a_step_on_tokens(standardised, stores, adapter_type, term):
    rows = [{"context_features": i, "query_features": (i + 3) % ROWS} for i in (4, 0, 17, 9, 2, 11, 7, 5)]
    gradients, losses = [], []
    for pooling in (None, "mean"):
        model = standardised(adapter_type)
        model.loss_terms["term"] = term
        batch = FeatureCollator(stores["context"], stores["query"], pooling=pooling)(rows)
        outputs = model(**batch)
        outputs.loss.backward()
        losses.append(outputs.loss.detach())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert "context_adapter" in " ".join(gradients[0])
    assert max(gradient.abs().max() for gradient in gradients[0].values()) > 1e-4
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)
