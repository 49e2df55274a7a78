"""What is taken from an encoder is what its name says, or a line that says what there is."""

import copy

import pytest
import torch
from test_encoder_families import MAKERS, SMALL
from test_errors import refused
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    IJepaConfig,
    IJepaModel,
    LlamaConfig,
    LlamaModel,
    RobertaConfig,
    RobertaModel,
    Sam2HieraDetConfig,
    Sam2HieraDetModel,
    SamVisionConfig,
    SamVisionModel,
    ViTMAEConfig,
    ViTMAEModel,
)

from otmerge_hf import OTMergeModel


PLAIN, POOLED = "expected last_hidden_state, or a layer's index", "expected last_hidden_state, pooled, or a layer's"
MAKE = MAKERS | {
    "i-jepa": lambda: IJepaModel(IJepaConfig(image_size=32, patch_size=8, **SMALL)),
    "clip-vision": lambda: CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **SMALL)),
    "sam": lambda: SamVisionModel(
        SamVisionConfig(
            image_size=32, patch_size=4, mlp_dim=32, output_channels=8, global_attn_indexes=[1], window_size=4,
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        )
    ),
    "sam2": lambda: Sam2HieraDetModel(
        Sam2HieraDetConfig(
            image_size=[64, 64], hidden_size=8, num_attention_heads=1, blocks_per_stage=[1, 1, 1, 1],
            embed_dim_per_stage=[8, 16, 16, 24], num_attention_heads_per_stage=[1, 1, 1, 1],
            window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[], num_query_pool_stages=1,
        )
    ),
    "roberta": lambda: RobertaModel(RobertaConfig(vocab_size=60, **SMALL)),
    "llama": lambda: LlamaModel(LlamaConfig(vocab_size=60, **SMALL)),
    "vit-mae": lambda: ViTMAEModel(ViTMAEConfig(image_size=32, patch_size=8, **SMALL)),
}  # fmt: skip


@pytest.fixture
def build(encoder):
    def build(context="vit", query="bert", **options):
        torch.manual_seed(0)
        parts = [MAKE[name]().eval() if name in MAKE else encoder(name) for name in (context, query)]
        return OTMergeModel.from_encoders_pretrained(*parts, shared_dim=16, **options).eval()

    return build


@pytest.mark.parametrize(
    ("side", "name", "choices"),
    [
        ("context", "siglip", POOLED),
        ("context", "swin", POOLED),
        ("context", "i-jepa", PLAIN),
        ("context", "sam", PLAIN),
        ("context", "wav2vec2", PLAIN),
        ("context", "whisper", PLAIN),
        ("query", "gpt2", PLAIN),
        ("query", "t5", PLAIN),
        ("query", "clip", POOLED),
    ],
)
def test_class_token_that_is_none(build, side, name, choices):
    with refused(f"`{side}_tokens` is 'cls', and a `.*` encoder has no class token; {choices}"):
        build(**{side: name, f"{side}_tokens": "cls"})


@pytest.mark.parametrize("name", ["vit", "clip-vision", "vit-mae", "ast", "bert"])
def test_class_token_that_is_one(build, name):
    assert build(name, context_tokens="cls").config.context_tokens == "cls"


@pytest.mark.parametrize("name", ["bert", "distilbert", "bart"])
def test_text_encoders_that_begin_with_a_token_of_the_whole(build, name):
    assert build(query=name, query_tokens="cls").config.query_tokens == "cls"


def test_layers_of_sam_are_channels_last(build, batch):
    model = build("sam", context_tokens=1)
    with torch.no_grad():
        layers = model.context_encoder(batch["pixel_values"], output_hidden_states=True).hidden_states
        tokens = model(**batch).context_tokens
    assert tokens.shape == (3, 64, 16)
    torch.testing.assert_close(tokens, layers[1].flatten(1, 2))


def test_sam2_is_channels_last_throughout(build, batch):
    """Its height and depth would otherwise change places, and so the width follow the size of the image."""
    model = build("sam2")
    pixels = torch.nn.functional.interpolate(batch["pixel_values"], size=(64, 64))
    with torch.no_grad():
        tokens = model(**batch | {"pixel_values": pixels}).context_tokens
        expected = model.context_encoder(pixels).last_hidden_state
    assert tokens.shape == (3, 64, 24)
    assert torch.equal(model.context_standardizer(expected.flatten(1, 2)), tokens)


def test_masked_autoencoder_sees_the_whole_image_in_order(build, batch, tmp_path):
    """It would drop 12 of 16 patches and shuffle the rest: two runs would differ."""
    model = build("vit-mae", context_tokens=0)
    changed = copy.deepcopy(batch)
    changed["pixel_values"][:, :, 8:16, 16:24] += 1.0  # row 1, column 2: the seventh patch
    with torch.no_grad():
        tokens, others = model(**batch).context_tokens, model(**changed).context_tokens
        assert torch.equal(tokens, model(**batch).context_tokens)
    assert tokens.shape == (3, 17, 16)
    assert (tokens != others).any(dim=2)[0].nonzero().flatten().tolist() == [7]
    model.save_pretrained(tmp_path)
    again = OTMergeModel.from_pretrained(tmp_path)
    assert again.config.context_config.mask_ratio == 0
    assert torch.equal(again(**batch).context_tokens, tokens)
