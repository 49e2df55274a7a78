"""Where an answer comes from, several ways: a trained merge and its inputs in, heat over the image out.

Every function is called with a trained [`OTMergeForQuestionAnswering`] and what its processor makes, and returns
(B, rows, columns): not negative, each map summing to 1 (an even one if all would be zero), its cells tiling the image.
Rows of several images are refused with a ValueError: a map is of one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..model.encoders import run_encoder
from ..model.modality import CONTEXT_INDEX, IMAGE_MASK, SIDES
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.outputs_otmerge import EmbeddedSide
from ..model.plans import entropic_plan, even_log_weights, token_cosines
from .maps import attention_map, grid_of, normalized, on_grid


Inputs = Mapping[str, Any]
Logits = Callable[..., torch.Tensor]  # as a function of the context
EPSILON, SLACK = 0.05, 0.05  # of the plan, in units of the cost 1 - cos


@torch.no_grad()
def attention(model: OTMergeForQuestionAnswering, inputs: Inputs) -> torch.Tensor:
    """Weights that the fuser gives the context tokens; a model with eager attention, see [`attention_map`]."""
    _refuse_several(inputs)
    outputs = model(**inputs, output_attentions=True)
    return normalized(attention_map(outputs.attentions, outputs.query_mask))


@torch.no_grad()
def plan(model: OTMergeForQuestionAnswering, inputs: Inputs) -> torch.Tensor:
    """Mass that the entropic plan between shared tokens brings from each context token, above an even share."""
    brought = word_plan(model, inputs).sum(dim=1)  # (B, S_c)
    return on_grid(brought - brought.mean(dim=1, keepdim=True), model.config.context_grid)


@torch.no_grad()
def word_plan(model: OTMergeForQuestionAnswering | OTMergeModel, inputs: Inputs) -> torch.Tensor:
    """Entropic plan (B, S_q, S_c) between the shared tokens of words and patches, of cost 1 - cos, epsilon 0.05.

    Marginals are even and relaxed: a word that no patch is like keeps its mass, at a price of 0.05 a unit.
    """
    context, query = _sides(model, inputs)
    log_a, log_b = (even_log_weights(side.shared, side.mask) for side in (query, context))
    return entropic_plan(1 - token_cosines(query.shared, context.shared), log_a, log_b, EPSILON, slack=SLACK)


@torch.no_grad()
def late_interaction(model: OTMergeForQuestionAnswering, inputs: Inputs) -> torch.Tensor:
    """Positive part of the cosine of the query's shared embedding with each context token.

    With the answer's statement ("the shape is red") in the question's place, it shows where that is seen.
    """
    context, query = _sides(model, inputs)
    return on_grid(token_cosines(query.embeds.unsqueeze(1), context.shared)[:, 0], model.config.context_grid)


@torch.no_grad()
def token_occlusion(model: OTMergeForQuestionAnswering, inputs: Inputs, reach: float = 3.0) -> torch.Tensor:
    """How far the answers move where a context token and its neighbours become the mean token.

    Args:
        model: A trained merge, in `eval()`.
        inputs: Its inputs; the encoders run once.
        reach: Side of what is replaced, in tokens; 1 spares the neighbours.
    """
    _refuse_several(inputs)
    base = model.otmerge
    given, mask, tokens, _ = base.read_inputs(dict(inputs))[0]
    if tokens is None:
        tokens, _ = run_encoder(base.context_encoder, given, model.config.context_tokens, mask)
    rows, columns = grid_of(model.config.context_grid, tokens.shape[1])
    leading, cells = tokens.split([tokens.shape[1] - rows * columns, rows * columns], dim=1)
    mean = getattr(base.context_standardizer, "mean", cells.mean(dim=(0, 1))).to(cells.dtype)
    answer = _answer_to_question(model, inputs)

    def answer_cells(cells: torch.Tensor) -> torch.Tensor:
        return answer(context_features=torch.cat([leading, cells.flatten(2).transpose(1, 2)], dim=1))

    cells = cells.transpose(1, 2).unflatten(2, (rows, columns))  # (B, D_c, rows, columns)
    return _occlude(answer_cells, cells, mean[:, None, None], (rows, columns), reach)


@torch.no_grad()
def occlusion(model: OTMergeForQuestionAnswering, inputs: Inputs, cells: int = 8, reach: float = 2.0) -> torch.Tensor:
    """How far the answers move where a square of pixels takes the image's median colour.

    The move is the Kullback-Leibler divergence of the answers' probabilities, in nats. The image encoder sees each
    distinct image `cells` x `cells` times. A place that has the median colour already gets no heat.

    Args:
        model: A trained merge, in `eval()`.
        inputs: With `pixel_values` (B, C, H, W).
        cells: Cells along each side of the map.
        reach: Side of the square that is covered around each cell's centre, in cells.

    Raises:
        ValueError: If there are no `pixel_values`.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> from otmerge_hf import OTMergeConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(image_size=32, patch_size=16, **small), BertConfig(vocab_size=50, **small)
        >>> config = OTMergeConfig.from_encoder_configs(*encoders, shared_dim=8, num_labels=3)
        >>> inputs = {"pixel_values": torch.rand(2, 3, 32, 32), "input_ids": torch.ones(2, 4).long()}
        >>> occlusion(OTMergeForQuestionAnswering(config).eval(), inputs, cells=4).shape
        torch.Size([2, 4, 4])

    Source: Zeiler and Fergus 2014, section 4.2, with the answers' divergence in place of one answer's probability.
    """
    _refuse_several(inputs)
    pixels = inputs.get("pixel_values")
    if pixels is None:
        raise ValueError(f"`inputs` hold {', '.join(inputs)}; `occlusion` covers `pixel_values`.")
    pixels, rows = pixels.unique(dim=0, return_inverse=True)  # questions about one image share its encoding
    median = pixels.flatten(2).median(dim=2).values[..., None, None]  # (images, C, 1, 1)
    answer, tokens = _answer_to_question(model, inputs), model.config.context_tokens

    def answer_pixels(pixels: torch.Tensor) -> torch.Tensor:
        features, _ = run_encoder(model.otmerge.context_encoder, {"pixel_values": pixels}, tokens)
        return answer(context_features=features[rows], pixel_values=pixels)

    return _occlude(answer_pixels, pixels, median, (cells, cells), reach)


#: Name -> function.
EXPLANATIONS: dict[str, Callable[..., torch.Tensor]] = {
    function.__name__: function for function in (occlusion, attention, plan, late_interaction, token_occlusion)
}


def _refuse_several(inputs: Inputs) -> None:
    pixels, mask = inputs.get("pixel_values"), inputs.get(IMAGE_MASK)
    if mask is not None or (pixels is not None and pixels.dim() == 5):
        raise ValueError("`inputs` hold several images a row; heat is drawn over one image a row.")
    if inputs.get(CONTEXT_INDEX) is not None:
        raise ValueError(f"`inputs` hold `{CONTEXT_INDEX}`; heat is drawn over one image a row.")


def _occlude(answer: Logits, whole: torch.Tensor, fill: torch.Tensor, grid: tuple, reach: float) -> torch.Tensor:
    """Divergence of `answer` (B, num_labels) where squares of `whole` (B, C, H, W) become `fill`, one at a time."""
    centres = [
        (torch.arange(length) + 0.5) * count / length - (torch.arange(count)[:, None] + 0.5)
        for count, length in zip(grid, whole.shape[2:], strict=True)
    ]
    rows, columns = (offsets.abs().to(whole.device) < reach / 2 for offsets in centres)  # (count, length)
    usual, moved = answer(whole).log_softmax(dim=-1), []
    for row in rows:
        for column in columns:
            covered = answer(torch.where(row[:, None] & column, fill, whole)).log_softmax(dim=-1)
            moved.append((usual.exp() * (usual - covered)).sum(dim=-1))
    return normalized(torch.stack(moved, dim=1).unflatten(1, grid))


def _answer_to_question(model: OTMergeForQuestionAnswering, inputs: Inputs) -> Logits:
    """Logits as a function of the context alone; the question is encoded once."""
    given, mask, features, _ = model.otmerge.read_inputs(dict(inputs))[1]
    if features is None:
        features, mask = run_encoder(model.otmerge.query_encoder, given, model.config.query_tokens, mask)
    return lambda **context: model(**context, query_features=features, query_features_mask=mask).logits


def _sides(model: OTMergeForQuestionAnswering | OTMergeModel, inputs: Inputs) -> list[EmbeddedSide]:
    _refuse_several(inputs)
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    return [base.embed_side(side, *given) for side, given in zip(SIDES, base.read_inputs(dict(inputs)), strict=True)]
