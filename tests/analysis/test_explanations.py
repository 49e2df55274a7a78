"""Planted answers: what the answer comes from is known, and each explanation must find it."""

import pytest
import torch
from torch import nn

from otmerge_hf.analysis.explanations import (
    EXPLANATIONS,
    attention,
    late_interaction,
    occlusion,
    plan,
    token_occlusion,
)
from otmerge_hf.model.outputs_otmerge import EmbeddedSide


ROW, COLUMN = 1, 2  # the token (and 8 x 8 pixels) that the planted answer reads


class Planted(nn.Module):
    """Encoder whose tokens are the mean colours of 8 x 8 patches, after a class token of zeros."""

    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__()
        self.config, self.dtype, self.calls = config, torch.float32, 0

    def forward(self, pixel_values, **kwargs):
        self.calls += len(pixel_values)
        patches = nn.functional.avg_pool2d(pixel_values, 8).flatten(2).transpose(1, 2)
        tokens = nn.functional.pad(patches, (0, self.config.hidden_size - 3, 1, 0))
        return type("Outputs", (), {"last_hidden_state": tokens})()


@pytest.fixture
def planted(merge):
    """A merge whose first logit is the red of one patch, and the other two nothing."""
    model = merge(attn_implementation="eager")
    model.otmerge.context_encoder = Planted(model.config.context_config)
    token = 1 + 4 * ROW + COLUMN

    def read(query, context, *of_shared):
        red = context.tokens[:, token, 0]
        return torch.stack([4 * red, 0 * red, 0 * red], dim=1)

    model.linear_path = _Function(read)
    for parameter in model.classifier.parameters():
        parameter.data.zero_()
    return model


class _Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def hottest(heat):
    return [divmod(place, heat.shape[2]) for place in heat.flatten(1).argmax(dim=1).tolist()]


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_heat_is_a_distribution_over_the_grid(name, merge, batch):
    heat = EXPLANATIONS[name](merge(attn_implementation="eager"), batch)
    assert heat.shape == ((3, 8, 8) if name == "occlusion" else (3, 4, 4))
    assert (heat >= 0).all()
    torch.testing.assert_close(heat.sum(dim=(1, 2)), torch.ones(3))


@pytest.mark.parametrize(("cells", "reach"), [(4, 1.0), (4, 1.5), (8, 2.0)])
def test_occlusion_of_pixels_finds_the_patch_that_is_read(planted, batch, cells, reach):
    batch["pixel_values"][:, 0, 8 * ROW : 8 * ROW + 8, 8 * COLUMN : 8 * COLUMN + 8] += 2.0
    heat = occlusion(planted, batch, cells=cells, reach=reach)
    scale = cells // 4
    inside = heat[:, ROW * scale : (ROW + 1) * scale, COLUMN * scale : (COLUMN + 1) * scale]
    assert [(row // scale, column // scale) for row, column in hottest(heat)] == [(ROW, COLUMN)] * 3
    if reach == 1.0:  # squares that do not reach other patches
        torch.testing.assert_close(inside.sum(dim=(1, 2)), torch.ones(3))


def test_occlusion_of_tokens_finds_the_token_that_is_read(planted, batch):
    heat = token_occlusion(planted, batch, reach=1.0)
    torch.testing.assert_close(heat[:, ROW, COLUMN], torch.ones(3))
    around = token_occlusion(planted, batch)[:, ROW - 1 : ROW + 2, COLUMN - 1 : COLUMN + 2]
    torch.testing.assert_close(around, torch.full((3, 3, 3), 1 / 9))  # each of nine squares covers it


def test_tokens_are_occluded_on_ready_features_as_on_pixels(planted, batch):
    features = planted.otmerge.context_encoder(batch["pixel_values"]).last_hidden_state
    given = {name: value for name, value in batch.items() if name != "pixel_values"} | {"context_features": features}
    torch.testing.assert_close(token_occlusion(planted, given), token_occlusion(planted, batch))


def test_an_even_image_gets_even_heat(planted, batch):
    even = batch | {"pixel_values": torch.ones(3, 3, 32, 32)}
    torch.testing.assert_close(occlusion(planted, even, cells=4), torch.full((3, 4, 4), 1 / 16))


def test_questions_about_one_image_share_its_encoding(planted, batch):
    pixels = batch["pixel_values"][:1].expand(3, -1, -1, -1)
    alone = [
        occlusion(planted, {name: value[i : i + 1] for name, value in (batch | {"pixel_values": pixels}).items()}, 4)
        for i in range(3)
    ]
    planted.otmerge.context_encoder.calls = 0
    together = occlusion(planted, batch | {"pixel_values": pixels}, cells=4)
    assert planted.otmerge.context_encoder.calls == 1 + 4 * 4
    torch.testing.assert_close(together, torch.cat(alone))


def test_occlusion_needs_pixels(merge, batch):
    with pytest.raises(ValueError, match="`occlusion` covers `pixel_values`"):
        occlusion(merge(), {"context_features": torch.zeros(3, 16, 16), "input_ids": batch["input_ids"]})


def test_attention_needs_weights(merge, batch):
    with pytest.raises(ValueError, match="no attention"):
        attention(merge(fuser_type="concat"), batch)


@pytest.mark.parametrize("explanation", [plan, late_interaction])
def test_shared_tokens_near_the_question_are_hot(explanation, merge, batch):
    model = merge()

    def embed_side(side, *given):
        if side == "query":
            tokens = torch.eye(4)[:1].expand(3, 2, -1)
        else:
            tokens = -torch.eye(4)[0].repeat(3, 17, 1)
            tokens[:, 1 + 4 * ROW + COLUMN] *= -1
        return EmbeddedSide(tokens, tokens, tokens.mean(dim=1), None)

    model.otmerge.embed_side = embed_side
    torch.testing.assert_close(explanation(model, batch)[:, ROW, COLUMN], torch.ones(3))


def test_the_grid_of_the_configuration_is_kept(merge, batch):
    assert late_interaction(merge(context_grid=[2, 8]), batch).shape == (3, 2, 8)


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_rows_of_several_images_are_refused_by_name(merge, batch, name):
    several = batch | {"pixel_values": batch["pixel_values"][:, None].repeat(1, 2, 1, 1, 1)}
    with pytest.raises(ValueError, match="`inputs` hold several images a row; heat is drawn over one image a row"):
        EXPLANATIONS[name](merge().eval(), several)
