"""A merge taken apart: its two encoders as ordinary checkpoints, or another encoder in the place of one."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .encoders import encoder_part, load_encoder
from .modality import SIDES
from .probing import measure_width
from .sources import describe_encoders, is_recorded


def write_encoders(model: PreTrainedModel, directory: str | os.PathLike, processor: Any = None) -> dict[str, Path]:
    """Write both encoders of a merge as checkpoints of their own; see [`CheckpointMixin.unmerge`]."""
    folders = {side: Path(directory) / side for side in SIDES}
    if processor is not None:
        if not hasattr(processor, "context_part"):
            raise ValueError(f"`processor` is a {type(processor).__name__}; expected the processor of a merge.")
        processor.check_model(model)
    encoders = model.named_encoders()
    for side, encoder in encoders.items():
        if any(".base_layer." in name or "modules_to_save." in name for name in encoder.state_dict()):
            raise ValueError(
                f"The {side} encoder holds what PEFT put in, and no class loads it: `merge_and_unload()`."
            )
    for side, encoder in encoders.items():
        _write(encoder, getattr(model.config, f"{side}_config"), side, folders[side])
    if processor is not None:
        for side, name in (("context", processor.context_part), ("query", "tokenizer")):
            part = copy.copy(getattr(processor, name))
            if isinstance(
                part, PreTrainedTokenizerBase
            ):  # saved with a merge, it names its processor to AutoProcessor
                part._set_processor_class(None)
                part.init_kwargs = {name: v for name, v in part.init_kwargs.items() if name != "processor_class"}
            part.save_pretrained(folders[side])
    return folders


def _write(encoder: PreTrainedModel, config: PreTrainedConfig, side: str, folder: Path) -> None:
    """Save an encoder; where AutoModel knows the whole alone (T5, SigLIP's texts), under its name in the whole."""
    if type(encoder.config) in AutoModel._model_mapping:
        known = AutoModel._model_mapping[type(encoder.config)]
        if type(encoder) in (known if isinstance(known, tuple) else (known,)):
            encoder.save_pretrained(folder)
            return
    with torch.device("meta"):
        whole = AutoModel.from_config(copy.deepcopy(config), dtype=encoder.dtype)
    place = next(name for name, part in whole.named_modules() if part is encoder_part(whole, side))
    whole.save_pretrained(folder, state_dict={f"{place}.{key}": value for key, value in encoder.state_dict().items()})


def put_encoder(
    model: PreTrainedModel,
    side: str,
    source: str | os.PathLike | PreTrainedModel,
    force: bool,
    options: dict[str, Any],
) -> None:
    """Put another encoder into a merge; see [`CheckpointMixin.swap_encoder`]."""
    if side not in SIDES:
        raise ValueError(f"`side` is {side!r}; expected one of {', '.join(SIDES)}.")
    config, base = model.config, getattr(model, model.base_model_prefix, model)
    encoder, own_config, record = load_encoder(source, side, options)
    width, expected = _width(config, side, encoder, own_config), getattr(base, f"{side}_adapter").in_dim
    if width != expected:
        raise ValueError(
            f"The new {side} encoder makes features of width {width}, and its adapter takes {expected}: merge anew."
        )
    held = (config.encoder_sources or {}).get(side) or describe_encoders(model)[side]
    if not (is_recorded(encoder, held) or force):
        raise ValueError(
            f"The adapters were learnt for another {side} encoder: digest of its weights {held['digest']}, the new "
            f"one's {record['digest']}; `force=True` puts it in all the same, to be trained with."
        )
    old = getattr(base, f"{side}_encoder")
    if any(encoder is other for other in model.named_encoders().values()):
        encoder = copy.deepcopy(encoder)  # one module in two places could not be saved
    encoder.to(device=old.device, dtype=old.dtype).requires_grad_(not config.freeze_encoders)
    setattr(base, f"{side}_encoder", encoder)
    # one object where that is possible, as a merge has it
    setattr(config, f"{side}_config", encoder.config if type(encoder.config) is type(own_config) else own_config)
    config.encoder_sources = (config.encoder_sources or {}) | {side: record}
    model.train(model.training)


def _width(config: PreTrainedConfig, side: str, encoder: PreTrainedModel, own_config: PreTrainedConfig) -> int:
    width = measure_width(side, encoder, getattr(config, f"{side}_tokens"))
    if width is not None:
        return width
    trial = copy.copy(config)
    setattr(trial, f"{side}_config", own_config)
    setattr(trial, f"{side}_feature_dim", None)
    return trial.feature_dim(side)
