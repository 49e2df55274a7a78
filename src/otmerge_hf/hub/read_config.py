"""A merge's configuration -> what a card can say without results: encoders, parts, adapters, limits, a snippet."""

import os
import re
from typing import Any

import torch

from ..encoders.origins import find_origin
from ..model.adapters import build_adapter
from ..model.configuration_otmerge import OTMergeConfig
from ..model.encoders import build_encoder
from ..model.modality import SIDES, Modality, modality_of
from .facts import CardFacts, EncoderFacts
from .snippets import snippet


_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_INVERTIBILITY = {
    "exact": "exact: where its map has full rank, its `inverse` gives every feature back, up to rounding",
    "left-inverse": "left-inverse: where its map has full rank, its `inverse` gives every feature back, up to "
    "rounding; not every point of the shared space comes from a feature",
    "learned": "learned: a decoder approximates the way back",
    "none": "none: it loses information, and has no decoder",
}
_MODALITIES = {"image": "images", "text": "passages", "audio features": "sounds", "audio values": "sounds"}
_ANSWERING = {"image": "visual-question-answering", "text": "question-answering"}
_RETRIEVING = {"image": "zero-shot-image-classification"}


def start_facts(config: OTMergeConfig, name: str) -> CardFacts:
    """What the configuration of a saved merge tells.

    Args:
        config: Its `architectures` say whether it answers.
        name: Of the model, as the snippet loads it.

    Example:
        >>> from transformers import BertConfig, ViTConfig
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(), BertConfig())
        >>> config.architectures = ["OTMergeModel"]
        >>> start_facts(config, "mine").task
        'zero-shot-image-classification'
    """
    answers = "OTMergeForQuestionAnswering" in (config.architectures or ())
    modality = _context_modality(config)
    encoders = tuple(_encoder(config, side) for side in SIDES)
    both = " for the context and ".join(encoder.name for encoder in encoders)
    count = len(config.id2label or {})
    what = (
        f"answers questions about {_MODALITIES[modality.name]} with one of {count:,} answers"
        if answers
        else f"puts {_MODALITIES[modality.name]} and texts into one space, where the nearest belong together"
    )
    kind = modality.name.partition(" ")[0]
    tasks = _ANSWERING if answers else _RETRIEVING
    return CardFacts(
        name=name,
        task=tasks.get(modality.name, "audio-text-to-text" if answers and kind == "audio" else "feature-extraction"),
        about=f"A merge of two pretrained encoders, {both} for the query. It {what}. Made with otmerge_hf.",
        encoders=encoders,
        parts=_parts(config, answers),
        adapters=tuple(f"{side}: {_INVERTIBILITY[_invertibility(config, side)]}" for side in SIDES),
        snippet=snippet(name, kind, answers),
        limits=_limits(answers, count),
    )


def _encoder(config: OTMergeConfig, side: str) -> EncoderFacts:
    record: dict[str, Any] = (config.encoder_sources or {}).get(side, {})
    tokens = str(getattr(config, f"{side}_tokens"))
    tokens = f"hidden layer {tokens}" if tokens.lstrip("-").isdecimal() else f"`{tokens}`"
    if origin := find_origin(record):
        return EncoderFacts(side, origin.title, origin.hub, None, origin.license, origin.language, tokens, origin.note)
    place, kind = record.get("name_or_path") or "", getattr(config, f"{side}_config").model_type
    if place and not os.path.isabs(place) and _HUB_NAME.fullmatch(place):
        return EncoderFacts(side, place, place, record.get("revision"), tokens=tokens)
    note = "loaded from a folder or a model in memory" if record else ""
    return EncoderFacts(side, f"`{kind}` encoder", tokens=tokens, note=note)


def _context_modality(config: OTMergeConfig) -> Modality:
    encoder: Any = config.context_config
    try:
        with torch.device("meta"):  # no memory: only its class is asked
            return modality_of("context", build_encoder(encoder, "context"))
    except (NotImplementedError, RuntimeError):  # it computes while it is built, which takes real numbers
        return modality_of("context", build_encoder(encoder, "context"))


def _invertibility(config: OTMergeConfig, side: str) -> str:
    with torch.device("meta"):
        return build_adapter(config, side).invertibility


def _parts(config: OTMergeConfig, answers: bool) -> tuple[str, ...]:
    standardised = ", on standardised features" if config.standardize else ""
    lines = [f"Adapters: `{config.adapter_type}`, into a shared space {config.shared_dim:,} wide{standardised}."]
    if answers:
        path = ", ".join(f"`{name}`" for name in config.linear_path) or "none"
        lines.append(f"Fuser: `{config.fuser_type}`, {config.fuser_num_layers} deep. Linear path beside it: {path}.")
        names = list((config.id2label or {}).values())
        shown = ", ".join(str(name) for name in names[:20])
        lines.append(f"Answers: {shown}{', ...' if len(names) > 20 else ''}.")
    if not config.has_encoder_weights:
        lines.append(
            "The encoders' weights are not in this folder: `from_pretrained` fetches them from where the "
            'configuration says and checks them, or takes folders, `encoders={"context": ..., "query": ...}`.'
        )
    return tuple(lines)


def _limits(answers: bool, count: int) -> tuple[str, ...]:
    lines = [f"It chooses among its {count:,} answers and can say nothing else."] if answers else []
    lines.append("It sees what its encoders see: what their features lost, nothing behind them puts back.")
    lines.append("Nothing was measured but what stands above: not bias, not safety, not data of another kind.")
    return tuple(lines)
