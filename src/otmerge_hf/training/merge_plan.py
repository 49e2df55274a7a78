"""What training a merge would do, with counts and times, of a few inputs that are encoded for it."""

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import set_seed

from ..alignment.encoder_pair import EncoderPair
from ..alignment.recommendations import FitName
from ..data import PairSplit
from ..data.encoded import PARTS
from ..data.image_inputs import Chained
from ..data.questions import Questions, QuestionSplits
from ..data.raw_collator import RawCollator
from ..features import FeatureCollator, FeatureStore
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from .aligned_start import leave_out_asked
from .asked import UNALIGNED_WIDTH, check_asked, planned_steps
from .lora import add_lora
from .query_tokens import AUTO, first_tokens, query_candidates


_TRIED = {"context": 12, "query": 32}
_STEPS = 3


@dataclass(frozen=True)
class MergePlan:
    """What [`plan_merge`] found; `str()` of it is a page to read.

    Attributes:
        inputs: Side -> distinct inputs to encode.
        seconds: Stage -> seconds, estimated on this machine.
        steps: Most optimiser steps that are planned, of all trainings together.
        parameters: Of what learns.
        aligns: Whether there are captions to align on.
        kind: What the context encoder is given: `images` or `sounds`.
    """

    inputs: dict[str, int]
    seconds: dict[str, float]
    steps: int
    parameters: int
    aligns: bool
    kind: str = "images"

    def __str__(self) -> str:
        inputs, texts = self.inputs["context"], self.inputs["query"]
        time_of = {name: _shown(seconds) for name, seconds in self.seconds.items()}
        lines = [f"encode {inputs:,} {self.kind} and {texts:,} texts, less what is kept: {time_of['features']}"]
        lines.append("align on captions, in closed form" if self.aligns else "no captions: nothing is aligned")
        learnt = f"at most {self.steps:,} steps of {self.parameters:,} parameters: {time_of['answers']}"
        lines.append(f"learn the answers: {learnt}")
        return "\n".join([*lines, "Estimated from a few inputs on this machine; nothing was written."])


def plan_merge(
    context: str,
    query: str,
    questions: QuestionSplits,
    *,
    captions: Mapping[str, PairSplit] | None = None,
    unlabelled: Questions | None = None,
    lora: int | None = None,
    balanced: bool = False,
    context_tokens: str | int = "last_hidden_state",
    query_tokens: str | int = AUTO,
    image_size: int | None = None,
    fit: FitName = "auto",
    shared_dim: int | None = None,
    epochs: float = 4.0,
    least_steps: int = 300,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    questions_per_context: int = 1,
    cache_dir: str | os.PathLike = "runs/features",
    encode_batch_size: int | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> MergePlan:
    """Load the encoders, encode and train on a few inputs, and say what [`train_merge`] would do; nothing is kept.

    Takes the arguments of [`train_merge`] but `output_dir`, and refuses what that refuses before its work.
    """
    tokens = {"context": context_tokens, "query": first_tokens(query_tokens)}
    encoders = EncoderPair(context, query, {side: [choice] for side, choice in tokens.items()}, image_size)
    check_asked(encoders, questions, captions, unlabelled, lora, shared_dim, balanced, questions_per_context)
    parts = [*(getattr(questions, name) for name in PARTS), *([] if unlabelled is None else [unlabelled])]
    inputs = {
        "context": sum(len(part.images) for part in parts),
        "query": len({text for part in parts for text in part.texts}),
    }
    if captions is not None:
        held_out = Chained([questions.validation.images, questions.test.images])
        captions = leave_out_asked(captions, held_out, seed)
    for split in (captions or {}).values():
        inputs["context"] += len(split.images)
        inputs["query"] += len(split.texts)
    some: dict[str, Any] = {
        "context": questions.train.images[: _TRIED["context"]],
        "query": questions.train.texts[: _TRIED["query"]],
    }
    chooses = query_tokens == AUTO and not lora and unlabelled is None
    tries = {"context": 1, "query": len(query_candidates(encoders)) if chooses else 1}
    features, stores = 0.0, dict[str, FeatureStore]()
    set_seed(seed)
    with tempfile.TemporaryDirectory() as scratch:
        options: dict[str, Any] = {"cache_dir": scratch, "batch_size": encode_batch_size, "device": device}
        options["share"] = False  # another rank has another scratch folder
        for side, items in some.items():
            started = time.perf_counter()
            stores[side] = encoders.encode(side, tokens[side], {"some": items}, **options)["some"]
            features += (time.perf_counter() - started) / len(items) * inputs[side] * tries[side]
        choices = questions.answers.config | ({"linear_path": []} if lora else {})
        model = encoders.build_answering(tokens, shared_dim=shared_dim or UNALIGNED_WIDTH, **choices)
        collator: Any = FeatureCollator(stores["context"], stores["query"])
        if lora:
            add_lora(model, lora)
            collator = RawCollator(some["context"], some["query"], encoders.processor)
        model.to(device)  # type: ignore[arg-type]  # transformers wraps it and loses the signature
        learning = [value for value in model.parameters() if value.requires_grad]
        tried = min(batch_size, _TRIED["context"]) if lora else batch_size
        each = _seconds_a_step(model, collator, _rows(questions, tried, *map(len, stores.values())))
    rows = len(questions.train) + (0 if unlabelled is None else len(unlabelled))
    steps = planned_steps(rows, epochs, batch_size, least_steps)
    trainings = 1 if lora else 2  # the fuser is trained for the choice, and again on all rows
    seconds = {"features": features, "answers": trainings * steps * each * batch_size / tried}
    size = sum(value.numel() for value in learning)
    return MergePlan(inputs, seconds, steps * trainings, size, captions is not None, questions.train.kind)


def _rows(questions: QuestionSplits, count: int, contexts: int, queries: int) -> list[dict[str, Any]]:
    """Rows of the inputs that are tried, with as many images each as the questions have."""
    images = len(questions.train.places_of(0))
    places = [i % contexts for i in range(count)]
    return [
        {"context_features": place if images == 1 else [place] * images, "query_features": i % queries}
        for i, place in enumerate(places)
    ]


def _seconds_a_step(model: OTMergeForQuestionAnswering, collator: Any, rows: list[dict[str, Any]]) -> float:
    learning = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learning)
    labels = torch.zeros(len(rows), dtype=torch.long, device=model.device)
    started = 0.0
    for step in range(_STEPS + 1):
        if step == 1:  # the first step is slower
            started = time.perf_counter()
        batch = {name: value.to(model.device) for name, value in collator(rows).items()}
        torch.nn.functional.cross_entropy(model(**batch).logits, labels).backward()
        optimizer.step()
    return (time.perf_counter() - started) / _STEPS


def _shown(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
