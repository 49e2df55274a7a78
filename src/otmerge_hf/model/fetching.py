"""Encoders that a checkpoint leaves out: fetched from where it says, checked, and put back."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from .encoders import LoadedEncoder, load_encoder
from .sources import ENCODER_FINDERS, is_folder, is_recorded, recorded_place, weights_digest


logger = logging.get_logger(__name__)
# Of `from_pretrained`: what says how to fetch, and not what.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "token")


def fill_encoder(model: PreTrainedModel, side: str, given: Any, check: bool, hub: dict[str, Any]) -> None:
    """Put the weights of an encoder that was left out of a checkpoint back into the model.

    Raises:
        OSError: If it is not found.
        ValueError: If it is another one.
    """
    record = (model.config.encoder_sources or {}).get(side)
    if record is None:
        raise ValueError(f"The checkpoint holds no {side} encoder, and its `encoder_sources` name none.")
    part = _fetch(side, record, given, hub)
    missing = record.get("missing", ())
    if not (same := is_recorded(part.encoder, record)):
        found = weights_digest(part.encoder, missing)
        drawn = f" ({', '.join(drawn)} drawn anew)" if (drawn := part.source.get("missing")) else ""
        said = (
            f"The {side} encoder {part.source['name_or_path']!r}{drawn} is another one than this checkpoint was made "
            f"with: digest of its weights {found}, expected {record['digest']}"
        )
        if check:
            right = f"pass the right one, `encoders={{{side!r}: ...}}`"
            raise ValueError(f"{said}; {right}, or `check_encoders=False` to take it all the same.")
        logger.warning(f"{said}.")
    encoder = model.named_encoders()[side]
    held = {_without_peft(name): name for name in encoder.state_dict() if not _is_of_peft(name)}
    weights = {name: value for name, value in part.encoder.state_dict().items() if name not in missing}
    shapes = {name: encoder.state_dict()[held[name]].shape for name in held if name not in missing}
    if unlike := shapes.items() ^ {(name, value.shape) for name, value in weights.items()}:
        name, _ = min(unlike)
        raise ValueError(f"The {side} encoder does not fit the checkpoint's configuration: {name} differs.")
    if any(parameter.is_meta for parameter in encoder.parameters()):
        raise ValueError(f"The {side} encoder is offloaded (`device_map`): load a merge that was saved whole.")
    encoder.load_state_dict({held[name]: value for name, value in weights.items()}, strict=False)
    if same and (part.source["name_or_path"] == "" or (record["name_or_path"] and not is_folder(record))):
        return
    place = {key: part.source.get(key) for key in ("name_or_path", "revision", "subfolder")}
    model.config.encoder_sources = model.config.encoder_sources | {side: record | place if same else part.source}


def _fetch(side: str, record: dict[str, Any], given: Any, hub: dict[str, Any]) -> LoadedEncoder:
    """Load an encoder from where it is given; or else from where its record says, or a finder knows."""
    options, reasons = {"dtype": getattr(torch, record["dtype"])} | hub, []
    for find in (recorded_place, *ENCODER_FINDERS) if given is None else (lambda _: given,):
        try:
            if (place := find(record)) is None:
                continue
            pinned = {key: record[key] for key in ("revision", "subfolder") if record.get(key)}
            return load_encoder(place, side, options | (pinned if find is recorded_place else {}))
        except (ImportError, OSError) as error:
            reasons.append(str(error))
    named = f" {record['name_or_path']!r}" if record["name_or_path"] else ""
    at = f" at revision {record['revision']}" if record["revision"] else ""
    found = f": {'; '.join(reasons)}" if reasons else ""
    raise OSError(
        f"The {side} encoder, the {record['class_name']}{named}{at}, is not in this checkpoint and was not found"
        f"{found}; pass its name or folder, `encoders={{{side!r}: ...}}`."
    )


def _is_of_peft(name: str) -> bool:
    return "lora_" in name or "modules_to_save." in name


def _without_peft(name: str) -> str:
    """Name of a tensor before PEFT wrapped its module."""
    return name.replace(".base_layer.", ".").replace(".original_module.", ".")
