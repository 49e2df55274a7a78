"""One change of attention for all parts, although one of them does not know it."""

import pytest
import torch
from test_encoder_families import MAKERS
from transformers import DebertaV2Config, DebertaV2Model
from transformers.utils import logging

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.model import attention


def parts(model):
    base = getattr(model, "otmerge", model)
    return tuple(p.config._attn_implementation for p in (model, base.context_encoder, base.query_encoder))


@pytest.fixture
def mixed(encoder):
    """A ResNet attends to nothing, and transformers refuses to give it sdpa."""

    def make(cls):
        torch.manual_seed(0)
        return cls.from_encoders_pretrained(MAKERS["resnet"]().eval(), encoder("bert"), shared_dim=16).eval()

    return make


@pytest.mark.parametrize("cls", [OTMergeForQuestionAnswering, OTMergeModel])
def test_back_from_eager(mixed, batch, caplog, cls):
    attention.logger.warning_once.cache_clear()
    model = mixed(cls)
    expected = model(**batch)[0]
    model.set_attn_implementation("eager")
    assert parts(model) == ("eager", "eager", "eager")
    torch.testing.assert_close(model(**batch)[0], expected)
    logging.enable_propagation()
    try:
        model.set_attn_implementation("sdpa")
    finally:
        logging.disable_propagation()
    assert parts(model) == ("sdpa", "eager", "sdpa")
    assert caplog.text.count("The `resnet` encoder keeps its `eager` attention; it has no `sdpa`") == 1
    torch.testing.assert_close(model(**batch)[0], expected)


def test_a_part_by_name(mixed, merge):
    model = merge()
    model.set_attn_implementation({"query_config": "eager"})
    assert parts(model) == ("sdpa", "sdpa", "eager")
    with pytest.raises(ValueError, match="ResNetModel does not support"):
        mixed(OTMergeModel).set_attn_implementation({"context_config": "flex_attention"})
    with pytest.raises(ValueError, match="no_such"):
        model.set_attn_implementation("no_such")


def test_on_the_query_side(encoder):
    deberta = DebertaV2Model(
        DebertaV2Config(
            vocab_size=60, type_vocab_size=0, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32,
        )
    )  # fmt: skip
    model = OTMergeModel.from_encoders_pretrained(encoder("vit"), deberta, shared_dim=16)
    for wanted in ("eager", "sdpa"):
        model.set_attn_implementation(wanted)
        assert parts(model) == (wanted, wanted, "eager")
