"""Seconds from question to answer."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from transformers.utils import logging as transformers_logging

from otmerge_hf.model.encoders import run_encoder
from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering
from otmerge_hf.model.processing_otmerge import OTMergeProcessor


def silence_transformers() -> None:
    """Errors only, and no bars of its own."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def take_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that what else the machine does falls on all.

    Example:
        >>> sorted(take_turns({"a": lambda: None, "b": lambda: None}, rounds=3))
        ['a', 'b']
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def inference_times(
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    image_size: int,
    batch_size: int,
    question: str = "what color is the shape?",
    rounds: int = 5,
) -> dict[str, float]:
    """Milliseconds of one forward from processed inputs, split into both encoders and the rest.

    Returns:
        `encoders_ms`, `rest_ms` (adapters, fuser and head on ready features), `whole_ms`, and `rest_share`, the rest
        over the sum of both parts, in [0, 1].
    """
    inputs = _inputs(processor, image_size, [question] * batch_size, batch_size)
    features = _encode(model, inputs)

    def rest() -> None:
        model(**features)

    with torch.inference_mode():
        model.eval()
        times = take_turns(
            {"encoders": lambda: _encode(model, inputs), "rest": rest, "whole": lambda: model(**inputs)}, rounds
        )
    share = times["rest"] / (times["rest"] + times["encoders"])
    return {f"{name}_ms": 1e3 * seconds for name, seconds in times.items()} | {"rest_share": share}


def shared_image_throughput(
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    image_size: int,
    questions: int = 10,
    question: str = "what color is the shape?",
    rounds: int = 5,
) -> dict[str, float]:
    """Questions per second when several ask about one image: encoded once, or anew for each.

    Returns:
        `once` and `anew`, questions per second.
    """
    one = _inputs(processor, image_size, [question] * questions, 1)
    copies = _inputs(processor, image_size, [question] * questions, questions)

    def once() -> None:
        features = _encode(model, one)
        for name in ("context_features", "context_features_mask"):
            if name in features:
                features[name] = features[name].expand(questions, *features[name].shape[1:])
        model(**features)

    with torch.inference_mode():
        model.eval()
        times = take_turns({"once": once, "anew": lambda: model(**copies)}, rounds)
    return {name: questions / seconds for name, seconds in times.items()}


def _inputs(processor: OTMergeProcessor, size: int, texts: list[str], images: int) -> dict[str, torch.Tensor]:
    pictures = [Image.effect_noise((size, size), 60).convert("RGB") for _ in range(images)]
    return dict(processor(images=pictures, text=texts, return_tensors="pt"))


@torch.no_grad()
def _encode(model: OTMergeForQuestionAnswering, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    base, config = model.otmerge, model.config
    of_text = {name: inputs.get(name) for name in ("input_ids", "token_type_ids")}
    context, context_mask = run_encoder(
        base.context_encoder, {"pixel_values": inputs["pixel_values"]}, config.context_tokens
    )
    query, query_mask = run_encoder(base.query_encoder, of_text, config.query_tokens, inputs.get("attention_mask"))
    made = {
        "context_features": context,
        "context_features_mask": context_mask,
        "query_features": query,
        "query_features_mask": query_mask,
    }
    return {name: value for name, value in made.items() if value is not None}
