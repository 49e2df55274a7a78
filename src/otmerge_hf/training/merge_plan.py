"""What training a merge would do, with counts and times, of a few inputs that are encoded for it."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import set_seed

from ..alignment.encoder_pair import EncoderPair
from ..data import PairSplit
from ..data.encoded import PARTS
from ..data.questions import QuestionSplits
from ..features import FeatureCollator, FeatureStore
from ..model.configuration_otmerge import OTMergeConfig


_TRIED = {"context": 12, "query": 32}
_STEPS = 3


@dataclass(frozen=True)
class MergePlan:
    """What [`plan_merge`] found; `str()` of it is a page to read.

    Attributes:
        inputs: Side -> distinct inputs to encode.
        seconds: Stage -> seconds, estimated on this machine.
        steps: Optimiser steps of the fuser, planned: trained once for the choice, and once more on all rows.
        parameters: Of what learns.
        aligns: Whether there are captions to align on.
    """

    inputs: dict[str, int]
    seconds: dict[str, float]
    steps: int
    parameters: int
    aligns: bool

    def __str__(self) -> str:
        images, texts = self.inputs["context"], self.inputs["query"]
        lines = [
            f"encode {images:,} images and {texts:,} texts, less what is kept: {_shown(self.seconds['features'])}"
        ]
        lines.append("align on captions, in closed form" if self.aligns else "no captions: nothing is aligned")
        lines.append(
            f"learn the answers: at most twice {self.steps:,} steps of {self.parameters:,} parameters: "
            f"{_shown(self.seconds['answers'])}"
        )
        return "\n".join([*lines, "Estimated from a few inputs on this machine; nothing was written."])


def plan_merge(
    context: str,
    query: str,
    questions: QuestionSplits,
    *,
    captions: Mapping[str, PairSplit] | None = None,
    context_tokens: str | int = "last_hidden_state",
    query_tokens: str | int = "last_hidden_state",
    image_size: int | None = None,
    shared_dim: int | None = None,
    epochs: float = 2.0,
    least_steps: int = 300,
    batch_size: int = 128,
    encode_batch_size: int | None = None,
    device: str | torch.device = "cpu",
    **rest: Any,
) -> MergePlan:
    """Load the encoders, encode and train on a few inputs, and say what [`train_merge`] would do; nothing is kept.

    Takes the arguments of [`train_merge`] but `output_dir`.
    """
    tokens = {"context": context_tokens, "query": query_tokens}
    encoders = EncoderPair(context, query, {side: [choice] for side, choice in tokens.items()}, image_size)
    parts = [getattr(questions, name) for name in PARTS]
    inputs = {
        "context": sum(len(part.images) for part in parts),
        "query": len({text for part in parts for text in part.texts}),
    }
    for split in (captions or {}).values():
        inputs["context"] += len(split.images)
        inputs["query"] += len(split.texts)
    some: dict[str, Any] = {
        "context": questions.train.images[: _TRIED["context"]],
        "query": questions.train.texts[: _TRIED["query"]],
    }
    features, stores = 0.0, dict[str, FeatureStore]()
    with tempfile.TemporaryDirectory() as scratch:
        options: dict[str, Any] = {"cache_dir": scratch, "batch_size": encode_batch_size, "device": device}
        for side, items in some.items():
            started = time.perf_counter()
            stores[side] = encoders.encode(side, tokens[side], {"some": items}, **options)["some"]
            features += (time.perf_counter() - started) / len(items) * inputs[side]
        set_seed(0)
        model = encoders.build_answering(
            tokens, shared_dim=shared_dim or OTMergeConfig.shared_dim, id2label=questions.answers.id2label
        )
        learning = [value for value in model.to(device).parameters() if value.requires_grad]  # type: ignore[arg-type]
        collator, optimizer = FeatureCollator(stores["context"], stores["query"]), torch.optim.AdamW(learning)
        places = [[i % len(store) for i in range(batch_size)] for store in (stores["context"], stores["query"])]
        first = questions.train.image_rows[0]
        images = 1 if isinstance(first, int) else len(first)
        contexts = [i if images == 1 else [i] * images for i in places[0]]
        rows = [{"context_features": i, "query_features": j} for i, j in zip(contexts, places[1], strict=True)]
        labels = torch.zeros(batch_size, dtype=torch.long, device=device)
        for step in range(_STEPS + 1):
            if step == 1:  # the first step is slower
                started = time.perf_counter()
            batch = {name: value.to(device) for name, value in collator(rows).items()}
            torch.nn.functional.cross_entropy(model(**batch).logits, labels).backward()
            optimizer.step()
    steps = max(round(epochs * len(questions.train) / batch_size), least_steps, 1)
    each = (time.perf_counter() - started) / _STEPS
    seconds = {"features": features, "answers": 2 * steps * each}
    return MergePlan(inputs, seconds, steps, sum(value.numel() for value in learning), captions is not None)


def _shown(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
