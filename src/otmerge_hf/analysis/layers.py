"""How alike the layers of the two encoders are: image-caption pairs in, a table of similarities out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..metrics.similarity import linear_cka
from ..model.encoders import run_encoder, select_tokens
from ..model.fusers import masked_mean
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor


class LayerSimilarity(NamedTuple):
    """Debiased linear CKA of every context layer with every query layer, the embeddings first.

    Attributes:
        cka: (L_c, L_q), at most 1, about 0 for unrelated layers; NaN where a layer does not vary.
        shuffled: Largest value where the pairs are shuffled: what chance gives.
    """

    cka: Tensor
    shuffled: float


def layer_similarity(
    model: OTMergeModel | OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    images: Sequence[Any],
    texts: Sequence[str],
) -> LayerSimilarity:
    """Compare the frozen encoders layer by layer, on the mean of each input's tokens.

    Args:
        model, processor: A merge of an image and a text encoder.
        images: N images, 4 at least.
        texts: The text of each.

    Raises:
        ValueError: If the rows do not match, or are too few.

    Source: Kornblith et al. 2019; see [`linear_cka`].
    """
    if len(images) != len(texts) or len(images) < 4:
        raise ValueError(f"images and texts must be 4 pairs at least; got {len(images)} and {len(texts)}")
    context, query = _layer_means(model, processor, images, texts)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    cka = torch.tensor([[_cka(x, y) for y in query] for x in context])
    return LayerSimilarity(cka, max(_cka(x, y[order]) for x in context for y in query))


def _cka(x: Tensor, y: Tensor) -> float:
    try:
        return linear_cka(x, y, debiased=True)
    except ValueError:  # a layer is constant over the rows
        return float("nan")


@torch.no_grad()
def _layer_means(
    model: OTMergeModel | OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    images: Sequence[Any],
    texts: Sequence[str],
) -> list[list[Tensor]]:
    """For each side, its layers' means (N, D_layer); one pair at a time, so that nothing is padded."""
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    seen: list[Any] = []
    encoders = [getattr(base, f"{side}_encoder").eval() for side in SIDES]
    hooks = [encoder.register_forward_hook(lambda *call: seen.append(call[-1])) for encoder in encoders]
    rows: list[list[list[Tensor]]] = [[], []]
    try:
        for image, text in zip(images, texts, strict=True):
            made = processor(images=[image], text=[text], return_tensors="pt").to(base.device)
            inputs = base.read_inputs(dict(made))
            for encoder, side, (given, mask, *_) in zip(encoders, rows, inputs, strict=True):
                seen.clear()
                run_encoder(encoder, given, 0, mask)  # one forward, of which the hook sees every layer
                layers = range(len(seen[-1].hidden_states))
                side.append([masked_mean(*select_tokens(encoder, seen[-1], layer, mask))[0] for layer in layers])
    finally:
        for hook in hooks:
            hook.remove()
    return [[torch.stack(layer).cpu() for layer in zip(*side, strict=True)] for side in rows]
