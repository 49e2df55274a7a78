"""One explanation of the suite `explanations`, measured on images of one shape and of two."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor
from otmerge_hf.analysis.explanations import EXPLANATIONS, occlusion
from otmerge_hf.data import load_easy_vqa, statement

from ..runner.cell import Record
from ..tasks.easy_vqa_shapes import heat_inside, pointing_hits, shape_mask, two_shapes


EVERY, PER_IMAGE = 10, 5  # five questions of every tenth image, so that the questions are about many images
BATCH = 50


def measure(folder: Path, kind: str, questions: int, with_two: int) -> Record:
    """Where the heat of right answers is, and what it follows where there are two shapes.

    Args:
        folder: Of a saved merge.
        kind: Name in [`explanations.KINDS`].
        questions: How many, about one shape.
        with_two: How many, about one of two.

    Raises:
        ValueError: If the folder holds no merge.
    """
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ValueError(f"`model` is {folder}, which holds no model.safetensors; expected a saved merge.")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    model = OTMergeForQuestionAnswering.from_pretrained(folder, attn_implementation="eager").eval()
    processor = OTMergeProcessor.from_pretrained(folder)
    test, seen = load_easy_vqa("test"), Counter[int]()
    chosen: list[int] = []
    for place, image in enumerate(test["image_id"]):
        seen[image] += 1
        if image % EVERY == 0 and seen[image] <= PER_IMAGE and len(chosen) < questions:
            chosen.append(place)
    rows = test.select(chosen)
    start = time.perf_counter()
    answers, heat = _explain(model, processor, kind, list(rows["image"]), list(rows["question"]))
    milliseconds = 1000 * (time.perf_counter() - start) / len(rows)
    right = torch.tensor([answer == truth for answer, truth in zip(answers, rows["answer"], strict=True)])
    masks = torch.stack([shape_mask(image) for image in rows["image"]])
    yes_no = torch.tensor([answer in ("yes", "no") for answer in rows["answer"]])
    parts = {"all": right, "shape or color": right & ~yes_no, "yes or no": right & yes_no}
    inside, hits = heat_inside(heat, masks), pointing_hits(heat, masks)
    one = {
        name: {"count": int(of.sum()), "share": _mean(inside, of), "hit": _mean(hits, of)}
        for name, of in parts.items()
    }

    pairs = two_shapes(list(test.select(range(0, 40 * with_two))), with_two)
    answers, heat = _explain(model, processor, kind, [p.image for p in pairs], [p.question for p in pairs])
    asked, other = (heat_inside(heat, torch.stack([getattr(p, name) for p in pairs])) for name in ("asked", "other"))
    share = (asked / (asked + other)).nan_to_num(0.5)  # no heat on either prefers neither
    two = {}
    for name, field in (("right", "answer"), ("mistaken", "other_answer")):
        of = torch.tensor([answer == getattr(p, field) for answer, p in zip(answers, pairs, strict=True)])
        two[name] = {"count": int(of.sum()), "asked": _mean(share, of)}
    return {"weights": digest, "one_shape": one, "two_shapes": two, "milliseconds": milliseconds}


def _mean(values: torch.Tensor, of: torch.Tensor) -> float | None:
    return values[of].float().mean().item() if of.any() else None


def _explain(
    model: Any, processor: Any, kind: str, images: list, questions: list[str]
) -> tuple[list[str], torch.Tensor]:
    """Answers, and heat (B, rows, columns)."""
    answers, heat = [], []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        inputs = dict(processor(images=images[part], text=questions[part], return_tensors="pt"))
        with torch.no_grad():
            given = [model.config.id2label[i] for i in model(**inputs).logits.argmax(dim=-1).tolist()]
        if kind == "statement":
            said = [_statement(*pair) for pair in zip(questions[part], given, strict=True)]
            inputs = dict(processor(images=images[part], text=said, return_tensors="pt"))
        answers += given
        heat.append(_function(kind)(model, inputs))
    return answers, torch.cat(heat)


def _statement(question: str, answer: str) -> str:
    try:
        return statement(question, answer)
    except ValueError:  # a wrong answer of the wrong kind, which is counted nowhere
        return question


def _function(kind: str) -> Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]:
    other: dict[str, Callable[..., torch.Tensor]] = {
        "statement": EXPLANATIONS["late_interaction"],
        "occlusion_coarse": partial(occlusion, cells=8, reach=2.0),
        "control": lambda model, inputs: _distance_from_median(inputs["pixel_values"]),
    }
    return other[kind] if kind in other else EXPLANATIONS[kind]


def _distance_from_median(pixels: torch.Tensor) -> torch.Tensor:
    distance = (pixels - pixels.flatten(2).median(dim=2).values[..., None, None]).abs().sum(dim=1)
    return distance / distance.sum(dim=(1, 2), keepdim=True)
