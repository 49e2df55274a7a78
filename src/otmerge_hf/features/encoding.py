"""One side of a merge -> its feature store: the model's own encoder and token selection, the processor's inputs."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ..model.encoders import run_encoder
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
        processor: The merge's processor.
        side: `"context"` or `"query"`.
        inputs: Distinct images (PIL or paths), waveforms, or texts.
        cache_dir: Folder that holds the stores of many keys.
        batch_size: Inputs per forward of the encoder.
        sampling_rate: Of waveforms, in Hz; needed for them, as the processor needs it.
        **options: Further options of [`compute_features`].

    Raises:
        ValueError: If `side` is unknown, the encoder is not frozen, waveforms come without their sampling rate, or an
            input gives NaN.
    """
    if side not in ("context", "query"):
        raise ValueError(f"`side` is {side!r}; expected context or query.")
    if not model.config.freeze_encoders:
        raise ValueError("The encoders train (`freeze_encoders=False`): features kept on disk would go stale.")
    processor.check_model(model)
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    encoder, tokens = getattr(base, f"{side}_encoder"), getattr(model.config, f"{side}_tokens")
    encoder.eval()
    image = side == "context" and "pixel_values" in processor.context_input_names

    def encode(batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        if image:
            batch = [_open(item) for item in batch]
        kind = "images" if image else "audio" if side == "context" else "text"
        rate = {"sampling_rate": sampling_rate} if kind == "audio" else {}
        made = processor(**{kind: batch}, **rate, return_tensors="pt").to(encoder.device)
        mask = made.pop("context_attention_mask" if side == "context" else "attention_mask", None)
        cast = {k: v.to(encoder.dtype) if v.is_floating_point() else v for k, v in made.items()}
        if image and encoder.device.type == "cpu":
            # convolutions on the CPU are about a quarter faster in this layout, with the same values
            cast["pixel_values"] = cast["pixel_values"].to(memory_format=torch.channels_last)
        return run_encoder(encoder, cast, tokens, mask)

    # only what this side's inputs pass through: another tokenizer must not make images be encoded anew
    part = "tokenizer" if side == "query" else "image_processor" if image else "feature_extractor"
    key = encoder_key(encoder, getattr(processor, part), tokens=tokens, dtype=encoder.dtype)
    return compute_features(encode, inputs, cache_dir=cache_dir, key=key, batch_size=batch_size, **options)


def _open(item: Any) -> Any:
    if not isinstance(item, str | os.PathLike):
        return item
    with Image.open(item) as image:
        return image.convert("RGB")
