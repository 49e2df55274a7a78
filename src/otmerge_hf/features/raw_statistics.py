"""Batches of raw inputs -> the features' statistics, stored in the merge: for who trains without a store."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ..model.modality import FORWARD_INPUTS, SIDES
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from .statistics import feature_statistics


@torch.no_grad()
def standardize_on(model: OTMergeModel | OTMergeForQuestionAnswering, batches: Iterable[Mapping[str, Any]]) -> None:
    """Run the encoders over some batches, and standardise both sides by what came out.

    A few hundred rows are enough. With a store, [`data.encode_questions`] does it by itself.

    Args:
        model: The merge, whose encoders are frozen.
        batches: Batches as `forward` takes them; what is no input, such as `labels`, is left aside.

    Raises:
        ValueError: If there is no batch, an input is broken, or the features are standardised already.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> from otmerge_hf import OTMergeConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(image_size=32, patch_size=16, **small), BertConfig(vocab_size=50, **small)
        >>> model = OTMergeModel(OTMergeConfig.from_encoder_configs(*encoders, shared_dim=8))
        >>> standardize_on(model, [{"pixel_values": torch.randn(2, 3, 32, 32), "input_ids": torch.ones(2, 4).long()}])
        >>> model.context_standardizer.is_fitted
        True
    """
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    sides: list[Any] = [base.context_standardizer, base.query_standardizer]
    if any(getattr(side, "is_fitted", True) for side in sides):
        raise ValueError("`model` is standardised already, or was built with `standardize=False`.")
    was_training = base.training
    base.eval()
    blocks: dict[str, list[torch.Tensor]] = {side: [] for side in SIDES}
    for batch in batches:
        given = {name: value.to(base.device) for name, value in batch.items() if name in FORWARD_INPUTS}
        for side, inputs in zip(SIDES, base.read_inputs(given), strict=True):
            embedded = base.embed_side(side, *inputs)
            real = embedded.tokens if embedded.mask is None else embedded.tokens[embedded.mask.bool()]
            blocks[side].append(real.reshape(-1, real.shape[-1]).float().cpu())
    if not blocks["context"]:
        raise ValueError("`batches` is empty; expected batches of inputs.")
    base.train(was_training)
    context, query = (feature_statistics(blocks[side]) for side in SIDES)
    base.fit_standardization(context=context, query=query)
