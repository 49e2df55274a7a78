"""One side of a merge -> its feature store: the model's own encoder and token selection, the processor's inputs."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from ..model.encoders import run_encoder
from ..model.modality import modality_of
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from .compute import compute_features
from .keys import encoder_key
from .store import FeatureStore


def encode(
    model: OTMergeModel | OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    side: str,
    inputs: Sequence[Any],
    *,
    cache_dir: str | os.PathLike,
    batch_size: int = 64,
    sampling_rate: int | None = None,
    **options: Any,
) -> FeatureStore:
    """Run the frozen encoder of one side over distinct inputs once, and keep what the adapter will receive.

    `model(context_features=..., query_features=...)` on rows of the stores equals `model` on the raw inputs. Features
    are kept as the encoder gives them; standardisation stays in the model.

    Args:
        model: The merge; its encoder of `side` must be frozen, or the features would go stale.
        side: `"context"` or `"query"`.
        inputs: Distinct images (PIL or paths), waveforms, or texts: what the side's encoder takes.
        cache_dir: As `batch_size` and `options` (`shard_size`, `dtype`, `progress`, `verify`) in [`compute_features`].
        sampling_rate: Of waveforms, in Hz; needed for them.

    Raises:
        ValueError: If `side` is unknown, the encoder is not frozen, waveforms come without their sampling rate, or an
            input cannot be opened or gives NaN.
    """
    if side not in ("context", "query"):
        raise ValueError(f"`side` is {side!r}; expected context or query.")
    if not model.config.freeze_encoders:
        raise ValueError("The encoders train (`freeze_encoders=False`): features kept on disk would go stale.")
    processor.check_model(model)
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    encoder, tokens = getattr(base, f"{side}_encoder"), getattr(model.config, f"{side}_tokens")
    encoder.eval()
    row = modality_of(side, encoder)
    options_of_call = {"sampling_rate": sampling_rate} if "sampling_rate" in row.call_options else {}

    def tokens_of(batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        items = {row.call_argument: [row.open_item(item) for item in batch]}
        made = processor(**items, **options_of_call, return_tensors="pt").to(encoder.device)
        more, value = {name: made[name] for name in row.encoder_options if name in made}, made[row.argument]
        if value.dim() == 4 and encoder.device.type == "cpu":
            # convolutions on the CPU are about a quarter faster in this layout, with the same values
            value = value.to(memory_format=torch.channels_last)
        mask = None if row.mask_argument is None else made.get(row.mask_argument)
        return run_encoder(encoder, {row.encoder_input: value, **more}, tokens, mask)

    # only what this side's inputs pass through: another tokenizer must not make images be encoded anew
    key = encoder_key(encoder, getattr(processor, row.processor_part), tokens=tokens, dtype=encoder.dtype)
    return compute_features(tokens_of, inputs, cache_dir=cache_dir, key=key, batch_size=batch_size, **options)
