"""The walk: shapes, masks, token selections and positions, for every fuser and adapter."""

import pytest
import torch
from transformers import AutoModel, AutoModelForVisualQuestionAnswering
from transformers.testing_utils import CaptureLogger
from transformers.utils import logging

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.model.configuration_otmerge import ADAPTER_TYPES, FUSER_TYPES
from otmerge_hf.model.fusers import sine_cosine_positions


@pytest.fixture
def dimensions():
    """Separate letters: B images and questions, S_c = 1 + 16 patches, S_q tokens, D shared, L labels."""
    return {"B": 3, "S_c": 17, "S_q": 7, "D": 16, "L": 3}


@pytest.mark.parametrize("adapter_type", ADAPTER_TYPES)
@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
def test_every_fuser_and_adapter(merge, batch, tmp_path, dimensions, fuser_type, adapter_type):
    model = merge(fuser_type=fuser_type, adapter_type=adapter_type, fuser_num_layers=2, reconstruction=True)
    with torch.no_grad():
        outputs, aligned = model(**batch), model.otmerge(**batch)
    b, s_c, s_q, d, n = dimensions.values()
    assert outputs.logits.shape == (b, n)
    assert outputs.context_shared.shape == (b, s_c, d)
    assert outputs.query_shared.shape == (b, s_q, d)
    assert outputs.context_embeds.shape == outputs.query_embeds.shape == (b, d)
    assert outputs.loss is None
    # what nobody reads while answering is not computed; the model of the alignment has it
    assert outputs.logits_per_image is outputs.logits_per_text is outputs.context_reconstruction is None
    assert aligned.logits_per_image.shape == (b, b)
    assert aligned.context_reconstruction.shape == aligned.context_tokens.shape == (b, s_c, 16)
    assert aligned.query_reconstruction.shape == (b, s_q, 16)
    for name in ("embeds", "shared", "tokens"):  # one walk for both
        for side in ("context", "query"):
            assert torch.equal(outputs[f"{side}_{name}"], aligned[f"{side}_{name}"])

    model.save_pretrained(tmp_path)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
    aligner = AutoModel.from_pretrained(tmp_path)
    assert (type(again), type(aligner)) == (OTMergeForQuestionAnswering, OTMergeModel)
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, outputs.logits)
        assert torch.equal(aligner(**batch).logits_per_image, aligned.logits_per_image)


@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
def test_eager_equals_sdpa(merge, batch, fuser_type):
    model = merge(fuser_type=fuser_type, fuser_num_layers=2)
    with torch.no_grad():
        sdpa = model(**batch).logits
        model.set_attn_implementation("eager")
        eager = model(**batch).logits
        attentions = model(**batch, output_attentions=True).attentions  # sdpa gives none
    assert len(attentions) == {"concat": 0, "average": 0, "transport": 1}.get(fuser_type, 2)
    for part in (model, model.otmerge, model.otmerge.context_encoder, model.otmerge.query_encoder):
        assert part.config._attn_implementation == "eager"
    torch.testing.assert_close(eager, sdpa, atol=1e-5, rtol=1e-5)


def test_attention_of_one_part_alone(merge):
    model = merge()
    model.set_attn_implementation({"query_config": "eager"})
    assert model.otmerge.query_encoder.config._attn_implementation == "eager"
    assert model.otmerge.context_encoder.config._attn_implementation == "sdpa"


def test_attention_choice_reaches_the_encoders_on_loading(merge, tmp_path):
    merge().save_pretrained(tmp_path)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path, attn_implementation="eager")
    attention = model.otmerge.query_encoder.encoder.layer[0].attention.self
    assert attention.config._attn_implementation == model.config._attn_implementation == "eager"


@pytest.mark.parametrize("fuser_type", ["cross_attention", "bidirectional", "self_cross_block"])
def test_attentions_are_distributions_over_real_context_tokens(merge, batch, fuser_type):
    model = merge(fuser_type=fuser_type, fuser_num_layers=2)
    logger = logging.get_logger("otmerge_hf.model.outputs_otmerge")
    logger.warning_once.cache_clear()
    with CaptureLogger(logger) as logs:  # as transformers' own models do
        assert model(**batch, output_attentions=True).attentions == ()
    assert "set_attn_implementation" in logs.out
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(**batch, output_attentions=True).attentions
    assert [weights.shape for weights in attentions] == [(3, 2, 7, 17)] * 2
    torch.testing.assert_close(attentions[0].sum(-1), torch.ones(3, 2, 7))
    assert model(**batch).attentions is None
    labels = torch.tensor([0, 1, 2])
    assert len(model(**batch, labels=labels, output_attentions=True).attentions) == 2


def test_tuple_output_begins_with_loss_and_logits(merge, batch):
    model = merge()
    labels = torch.tensor([0, 1, 2])
    named = model(**batch, labels=labels)
    plain = model(**batch, labels=labels, return_dict=False)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], named.loss)
    assert torch.equal(plain[1], named.logits)
    model.config.return_dict = False
    assert torch.equal(model(**batch)[0], named.logits)


@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
def test_longer_padded_query_gives_the_same_logits(merge, batch, fuser_type):
    model = merge(fuser_type=fuser_type, fuser_num_layers=2)
    longer = dict(batch)
    # what the padding holds must not matter either, so it is not the padding token
    longer["input_ids"] = torch.cat([batch["input_ids"], torch.full((3, 5), 9)], dim=1)
    longer["attention_mask"] = torch.cat([batch["attention_mask"], torch.zeros(3, 5, dtype=torch.long)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(**longer).logits, model(**batch).logits, atol=1e-5, rtol=1e-5)
        for row in range(3):  # and a row alone is what it is among others
            length = int(batch["attention_mask"][row].sum())
            alone = {
                "pixel_values": batch["pixel_values"][row : row + 1],
                "input_ids": batch["input_ids"][row : row + 1, :length],
                "attention_mask": batch["attention_mask"][row : row + 1, :length],
            }
            torch.testing.assert_close(model(**alone).logits[0], model(**batch).logits[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_longer_padded_context_gives_the_same_logits(merge, batch, fuser_type, attention):
    model = merge("bert", fuser_type=fuser_type, fuser_num_layers=2)
    model.set_attn_implementation(attention)
    query = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ids, mask = batch["input_ids"].flip(0), batch["attention_mask"].flip(0)
    with torch.no_grad():
        short = model(**query, context_input_ids=ids, context_attention_mask=mask).logits
        long = model(
            **query,
            context_input_ids=torch.cat([ids, torch.full((3, 6), 8)], dim=1),
            context_attention_mask=torch.cat([mask, torch.zeros(3, 6, dtype=torch.long)], dim=1),
        ).logits
    torch.testing.assert_close(long, short, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
def test_rows_do_not_mix(merge, batch, fuser_type):
    model = merge(fuser_type=fuser_type)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        permuted = model(**{name: value[order] for name, value in batch.items()}).logits
        torch.testing.assert_close(permuted, model(**batch).logits[order], atol=1e-5, rtol=1e-5)


def test_every_answer_depends_on_both_sides(merge, batch):
    model = merge()
    with torch.no_grad():
        logits = model(**batch).logits
        other_image = model(**(batch | {"pixel_values": batch["pixel_values"].flip(0)})).logits
        other_question = model(**(batch | {"input_ids": batch["input_ids"].clamp(max=7)})).logits
    assert not torch.allclose(logits[0], other_image[0], atol=1e-4)
    assert not torch.allclose(logits[0], other_question[0], atol=1e-4)


@pytest.mark.parametrize(
    ("tokens", "count"), [("last_hidden_state", 17), ("cls", 1), ("pooled", 1), (0, 17), (-2, 17)]
)
def test_token_selection_takes_what_the_encoder_gives(merge, batch, tokens, count):
    model = merge(cls=OTMergeModel, context_tokens=tokens, standardize=False)
    with torch.no_grad():
        taken = model(**batch).context_tokens
        raw = model.context_encoder(batch["pixel_values"], output_hidden_states=True)
    expected = {
        "last_hidden_state": raw.last_hidden_state,
        "cls": raw.last_hidden_state[:, :1],
        "pooled": raw.pooler_output[:, None],
    }.get(tokens)
    expected = raw.hidden_states[tokens] if expected is None else expected
    assert taken.shape[1] == count
    assert torch.equal(taken, expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_class_token_of_a_padded_text_is_its_first_real_token(merge, side):
    model = merge("bert", cls=OTMergeModel, query_tokens="cls", standardize=False)
    ids, mask = torch.tensor([[2, 6, 7, 3]]), torch.ones(1, 4, dtype=torch.long)
    pad = (2, 0) if side == "left" else (0, 2)
    padded = {"input_ids": torch.nn.functional.pad(ids, pad), "attention_mask": torch.nn.functional.pad(mask, pad)}
    with torch.no_grad():
        taken = model(**padded, context_input_ids=ids).query_tokens
        expected = model.query_encoder(ids).last_hidden_state[:, 0]  # of the text alone
    torch.testing.assert_close(taken[:, 0], expected)


def test_joined_layers_are_their_features_one_after_another(merge, batch):
    model = merge(cls=OTMergeModel, query_tokens="0+-1", standardize=False)
    assert model.config.feature_dim("query") == 2 * model.config.query_config.hidden_size
    read = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        taken = model(**batch).query_tokens
        layers = model.query_encoder(**read, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(taken[real], torch.cat([layers[0], layers[-1]], dim=-1)[real])
    with pytest.raises(ValueError, match=r"Hidden layers 0\+-1 were asked for, joined; those of this `efficientnet`"):
        merge("efficientnet", context_tokens="0+-1")


def test_hidden_layer_that_is_not_there(merge, batch):
    with pytest.raises(ValueError, match=r"Hidden layer 7 was asked for; this `bert` encoder has 3 \(0 to 2\)"):
        merge(query_tokens=7)(**batch)


def test_encoder_without_a_pooler(merge, batch, encoder):
    model = merge(query_tokens="pooled")
    model.otmerge.query_encoder.pooler = None
    with pytest.raises(ValueError, match="has no pooled output"):
        model(**batch)


@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
@pytest.mark.parametrize(("tokens", "count"), [("last_hidden_state", 16), ("pooled", 1), (2, None)])
def test_convolutional_context(merge, batch, tmp_path, fuser_type, tokens, count):
    model = merge("efficientnet", context_tokens=tokens, fuser_type=fuser_type)
    batch["pixel_values"] = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model(**batch)
    if count is not None:
        assert outputs.context_shared.shape == (3, count, 16)
    assert outputs.context_tokens.shape[-1] == model.config.feature_dim("context")
    if fuser_type == "cross_attention":
        model.save_pretrained(tmp_path)
        again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
        assert torch.equal(again(**batch).logits, outputs.logits)


def test_convolutional_map_has_no_class_token(merge, batch):
    model = merge("efficientnet")
    model.config.context_tokens = "cls"
    with pytest.raises(ValueError, match="has no class token; choose `pooled`"):
        model(**(batch | {"pixel_values": torch.zeros(3, 3, 128, 128)}))


def test_image_that_is_not_square_needs_its_grid(merge, batch):
    batch["pixel_values"] = torch.randn(3, 3, 64, 96)
    with pytest.raises(ValueError, match=r"`pixel_values` are 64 x 96.*set it to \[height, width\] in tokens"):
        merge("efficientnet")(**batch)
    outputs = merge("efficientnet", context_grid=[2, 3])(**batch)
    assert outputs.context_shared.shape[1] == 6
    with pytest.raises(ValueError, match="`context_grid` 4 x 4 has more cells than the 6 context tokens"):
        merge("efficientnet", context_grid=[4, 4])(**batch)
    assert merge("efficientnet", context_tokens="pooled")(**batch).logits.shape == (3, 3)


def test_grid_positions_name_rows_and_columns():
    like = torch.zeros(1)
    codes = sine_cosine_positions(1 + 6, 8, like, (2, 3))
    assert torch.equal(codes[0], torch.zeros(8))  # the class token
    cells = codes[1:].reshape(2, 3, 8)
    assert torch.equal(cells[:, 0, :4], cells[:, 2, :4])  # the row half does not change along a row
    assert torch.equal(cells[0, :, 4:], cells[1, :, 4:])  # nor the column half down a column
    assert len(codes[1:].unique(dim=0)) == 6
    assert len(sine_cosine_positions(50, 8, like, kind="sequence").unique(dim=0)) == 50


def test_positions_tell_places_apart(merge, batch):
    """Without positions the fuser sees a bag of tokens; with them, their order counts."""
    features = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(3))
    query = {name: batch[name] for name in ("input_ids", "attention_mask")}
    shuffled = features[:, torch.randperm(16, generator=torch.Generator().manual_seed(4))]
    for kind, same in (("none", True), ("auto", False), ("sequence", False)):
        model = merge(context_positions=kind)
        with torch.no_grad():
            first = model(context_features=features, **query).logits
            second = model(context_features=shuffled, **query).logits
        assert torch.allclose(first, second, atol=1e-5) is same, kind


def test_positions_follow_the_kind_of_context(merge):
    assert merge("vit").positions.kind == "grid"
    assert merge("bert").positions.kind == "sequence"
    with pytest.raises(ValueError, match="needs `context_grid` for a context that is no image"):
        merge("bert", context_positions="grid")


def test_embeddings_alone_equal_those_of_forward(merge, batch):
    model = merge(cls=OTMergeModel)
    with torch.no_grad():
        outputs = model(**batch)
        assert torch.equal(model.get_context_embeds(**batch), outputs.context_embeds)
        assert torch.equal(model.get_query_embeds(**batch), outputs.query_embeds)
        for side in ("context", "query"):
            shared, embeds = model.embed_tokens(side, outputs[f"{side}_tokens"], getattr(outputs, f"{side}_mask"))
            assert torch.equal(shared, outputs[f"{side}_shared"])
            assert torch.equal(embeds, outputs[f"{side}_embeds"])
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_image.T)


def test_embedding_is_the_mean_of_real_tokens(merge, batch):
    outputs = merge(cls=OTMergeModel)(**batch)
    torch.testing.assert_close(outputs.query_embeds[2], outputs.query_shared[2, :3].mean(dim=0))


def test_cached_features_take_the_place_of_inputs(merge, batch):
    model = merge(query_tokens=1)
    base = model.otmerge
    with torch.no_grad():
        raw = model(**batch)
        context = base.context_encoder(batch["pixel_values"]).last_hidden_state
        query = base.query_encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
        ).hidden_states[1]
        cached = model(context_features=context, query_features=query, query_features_mask=batch["attention_mask"])
        half = model(context_features=context, **{k: batch[k] for k in ("input_ids", "attention_mask")})
    assert torch.equal(cached.logits, raw.logits)
    assert torch.equal(half.logits, raw.logits)


def test_standardisation_is_kept_and_used(merge, batch, tmp_path):
    model = merge(cls=OTMergeModel)
    before = model(**batch).context_tokens
    mean, std = before.reshape(-1, 16).mean(0), before.reshape(-1, 16).std(0)
    model.fit_standardization(context=(mean, std))
    after = model(**batch).context_tokens.reshape(-1, 16)
    torch.testing.assert_close(after.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(after.std(0), torch.ones(16))
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(again.context_standardizer.mean, mean)
    assert torch.equal(again.context_standardizer.std, std)
    assert torch.equal(again.query_standardizer.std, torch.ones(16))
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(**batch).context_embeds.dtype == torch.bfloat16


def test_standardisation_leaves_dead_dimensions_alone(merge):
    model = merge(cls=OTMergeModel)
    std = torch.ones(16)
    std[3] = 0
    model.fit_standardization(query=(torch.zeros(16), std))
    assert torch.equal(model.query_standardizer.std, torch.ones(16))


@pytest.mark.parametrize(
    ("statistics", "said"),
    [
        ((torch.zeros(3), torch.ones(3)), r"`context` statistics have shapes \(3,\)"),
        ((torch.full((16,), torch.nan), torch.ones(16)), "`context statistics` holds NaN"),
    ],
)
def test_wrong_statistics_are_refused(merge, statistics, said):
    with pytest.raises(ValueError, match=said):
        merge(cls=OTMergeModel).fit_standardization(context=statistics)


def test_no_standardisation_to_fit(merge):
    with pytest.raises(ValueError, match="`standardize=False`"):
        merge(cls=OTMergeModel, standardize=False).fit_standardization(query=(torch.zeros(16), torch.ones(16)))


def test_sides_of_different_size_are_compared_all_with_all(merge, batch):
    model = merge(cls=OTMergeModel)
    outputs = model(**(batch | {"pixel_values": batch["pixel_values"][:2]}))
    assert outputs.logits_per_image.shape == (2, 3)
    cosine = torch.nn.functional.cosine_similarity(outputs.context_embeds[:, None], outputs.query_embeds[None], dim=-1)
    torch.testing.assert_close(outputs.logits_per_image, cosine * model.logit_scale.log_scale.exp())


def test_bfloat16(merge, batch, tmp_path):
    for adapter_type in ADAPTER_TYPES:
        model = merge(adapter_type=adapter_type)
        model.save_pretrained(tmp_path)
        half = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path, dtype=torch.bfloat16)
        with torch.no_grad():
            logits = half(**batch).logits  # float32 pixels are cast
            assert logits.dtype == torch.bfloat16
            torch.testing.assert_close(logits.float(), model(**batch).logits, atol=0.1, rtol=0.1)


def test_autocast_trains(merge, batch):
    model = merge(adapter_type="orthogonal").train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch, labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("cached", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_compiled_model_gives_the_same_logits(merge, batch, cached):
    model = merge()
    if cached:  # without the encoders, what is compiled is ours
        batch = {"context_features": torch.randn(3, 17, 16), "query_features": torch.randn(3, 7, 16)}
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, atol=1e-5, rtol=1e-5)


def test_vocabulary_can_grow(merge, batch, tmp_path):
    model = merge()
    before = model(**batch).logits
    vocabulary = model.config.query_config.vocab_size
    model.resize_token_embeddings(vocabulary + 3)
    assert model.otmerge.query_encoder.config.vocab_size == vocabulary + 3
    assert torch.equal(model(**batch).logits, before)
    batch["input_ids"][0, 1] = vocabulary + 1
    model.save_pretrained(tmp_path)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_one_encoder_on_both_sides_is_copied(encoder, tmp_path):
    bert = encoder("bert")
    model = OTMergeModel.from_encoders_pretrained(bert, bert, shared_dim=16)
    model.save_pretrained(tmp_path)
    ids = torch.tensor([[2, 6, 3]])
    again = OTMergeModel.from_pretrained(tmp_path)
    both = {"context_input_ids": ids, "input_ids": ids}
    assert torch.equal(again(**both).context_tokens, model.eval()(**both).context_tokens)


def test_what_was_put_into_an_encoder_after_loading_is_kept(encoder):
    bert = encoder("bert")
    bert.pooler.dense = torch.nn.Linear(16, 16)
    weight = bert.pooler.dense.weight.clone()
    model = OTMergeModel.from_encoders_pretrained(encoder("vit"), bert, shared_dim=16)
    assert torch.equal(model.query_encoder.pooler.dense.weight, weight)
