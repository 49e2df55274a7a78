"""One side of a merge -> its feature store: the model's own encoder and token selection, the processor's inputs."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image

from ..model.encoders import run_encoder
from ..model.modality import IMAGE, Modality, modality_of
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from ..model.sounds import is_sound_file
from .compute import compute_features
from .keys import encoder_key
from .store import FeatureStore


logger = logging.getLogger(__name__)


def encode(
    model: OTMergeModel | OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    side: str,
    inputs: Sequence[Any],
    *,
    cache_dir: str | os.PathLike,
    batch_size: int | None = None,
    sampling_rate: int | None = None,
    workers: int | None = None,
    **options: Any,
) -> FeatureStore:
    """Run the frozen encoder of one side over distinct inputs once, and keep what the adapter will receive.

    `model(context_features=..., query_features=...)` on rows of the stores equals `model` on the raw inputs. Features
    are kept as the encoder gives them; standardisation stays in the model.

    Texts and waveforms of like length are encoded together.

    Args:
        model: The merge; its encoder of `side` must be frozen, or the features would go stale.
        side: `"context"` or `"query"`.
        inputs: Distinct images (PIL or paths), waveforms (or paths of WAV files), or texts: what the encoder takes.
        cache_dir: As `options` (`shard_size`, `dtype`, `progress`, `verify`, `share`) in [`compute_features`].
        batch_size: Inputs per forward; by default what [`usual_batch_size`] says.
        sampling_rate: Of waveforms, in Hz; needed for them, files bring their own.
        workers: Threads that open images ahead of the encoder; by default what [`usual_workers`] says.

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
    options_of_call, load = {}, row.open_item
    if "sampling_rate" in row.call_options:
        rate = processor.feature_extractor.sampling_rate
        load = partial(row.open_item, sampling_rate=rate)
        options_of_call = {"sampling_rate": rate if all(map(is_sound_file, inputs)) else sampling_rate}

    def tokens_of(batch: list[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
        made = processor(**{row.call_argument: batch}, **options_of_call, return_tensors="pt").to(encoder.device)
        more, value = {name: made[name] for name in row.encoder_options if name in made}, made[row.argument]
        if value.dim() == 4 and encoder.device.type == "cpu":
            # convolutions on the CPU are about a quarter faster in this layout, with the same values
            value = value.to(memory_format=torch.channels_last)
        mask = None if row.mask_argument is None else made.get(row.mask_argument)
        return run_encoder(encoder, {row.encoder_input: value, **more}, tokens, mask)

    part = getattr(processor, row.processor_part)
    if row.encoder_input == "input_ids":
        _name_cut_texts(part, inputs)
    if batch_size is None:
        batch_size = usual_batch_size(row, part, encoder.device)
    if workers is None:
        workers = usual_workers(encoder.device) if row is IMAGE else 0
    # only what this side's inputs pass through: another tokenizer must not make images be encoded anew
    key = side_key(model, processor, side)
    options |= {"batch_size": batch_size, "workers": workers, "load": load, "length": row.length}
    return compute_features(tokens_of, inputs, cache_dir=cache_dir, key=key, **options)


def _name_cut_texts(tokenizer: Any, texts: Sequence[str]) -> None:
    """Warn of texts that are longer than what the tokenizer lets through."""

    def length(text: str, cut: bool) -> int:
        return len(tokenizer(text, truncation=cut, verbose=False)["input_ids"])

    # no token is shorter than a character: most texts need not be looked at
    limit = length("a " * 10_000, cut=True)
    long = [
        text for text in texts if isinstance(text, str) and len(text) + 2 > limit and length(text, cut=False) > limit
    ]
    if long:
        many = "1 text is" if len(long) == 1 else f"{len(long)} texts are"
        logger.warning(
            "%s longer than the %d tokens that are read; the rest is cut off: %.60r ...", many, limit, long[0]
        )


def usual_batch_size(row: Modality, part: Any, device: torch.device) -> int:
    """Inputs per forward, by a rule rather than a trial, so that a run that goes on does what it would have done.

    Images on the CPU: as many as have the pixels of four of 224 x 224, at most 64. The maps of larger batches are
    memory that the system takes back after each layer and hands out anew, page by page; `docs/features.md` has what
    that costs. Texts and sounds on the CPU: 32. On other devices: 64.

    Args:
        row: What kind of input it is.
        part: Its part of the processor.
        device: Of the encoder.
    """
    if device.type != "cpu":
        return 64
    if row is not IMAGE:
        return 32
    numbers = part(Image.new("RGB", (256, 256)), return_tensors="pt")[row.encoder_input].numel()  # 3 a pixel
    return max(1, min(64, 4 * 3 * 224**2 // numbers))


def usual_workers(device: torch.device) -> int:
    """Threads for opening images: the cores that the encoder leaves free, at most 4; 0 where it has them all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = torch.get_num_threads() if device.type == "cpu" else 1
    return max(0, min(4, cores - busy))


def side_key(
    model: OTMergeModel | OTMergeForQuestionAnswering, processor: OTMergeProcessor, side: str
) -> dict[str, Any]:
    """Key of one side's features ([`encoder_key`]): its encoder, what is taken from it, its processor's part."""
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    encoder, tokens = getattr(base, f"{side}_encoder"), getattr(model.config, f"{side}_tokens")
    part = getattr(processor, modality_of(side, encoder).processor_part)
    drawn = [] if tokens == "pooled" else (model.config.encoder_sources or {}).get(side, {}).get("missing", [])
    return encoder_key(encoder, part, tokens=tokens, dtype=encoder.dtype, without=drawn)
