"""Measuring of the suite `feature-extraction`: `encode`, the bare loops, and the inputs of both."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from otmerge_hf import OTMergeModel, OTMergeProcessor
from otmerge_hf.data import image_paths, load_easy_vqa, load_easy_vqa_statements
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features import encode
from otmerge_hf.features.encoding import usual_batch_size
from otmerge_hf.model.modality import modality_of

from ..runner.measure import silence_transformers
from ..tasks.flickr8k import read_photographs
from ..tasks.folder import data_folder


ARMS = ("encode", "bare", "same", "ready")
BATCH = {"texts": 32, "photographs": 8}
SIZE = 224


def compare(
    inputs: str, source: str, count: int, rounds: int, folder: Path, report_progress: Callable[[float], None]
) -> list[dict[str, dict[str, float]]]:
    """Wall and CPU seconds of every arm, turn by turn; an arm is a process that lives through all turns."""
    listed = write_inputs(inputs, source, count, folder)
    pools = {arm: ProcessPoolExecutor(1, mp_context=get_context("spawn")) for arm in ARMS}
    try:
        turns = []
        for turn in range(rounds + 1):
            found = {arm: pool.submit(run_arm, arm, inputs, tuple(listed)).result() for arm, pool in pools.items()}
            turns += [found] if turn else []  # the first makes everything warm
            report_progress((turn + 1) / (rounds + 1))
        return turns
    finally:
        for pool in pools.values():
            pool.shutdown()


def write_inputs(inputs: str, source: str, count: int, folder: Path) -> list[str]:
    """Texts, or files of photographs; easy-VQA's pictures are written as JPEG, upscaled to 500 x 375.

    Raises:
        ValueError: If the source has fewer.
    """
    if source == "flickr8k":
        rows = [row for row in read_photographs(data_folder()) if row.split == "train"]
        rows = rows[:: max(1, len(rows) // count)][:count]  # from all of them
        found = [str(row.file) for row in rows]
        if inputs == "texts":
            found = list(dict.fromkeys(text for row in rows for text in row.captions))[:count]
    elif inputs == "texts":
        asked = [*load_easy_vqa("train")["question"], *load_easy_vqa_statements("train")["statement"]]
        found = list(dict.fromkeys(asked))[:count]
    else:
        folder.mkdir(parents=True, exist_ok=True)
        found = [str(folder / f"{number}.jpg") for number in range(count)]
        for picture, file in zip(image_paths("train")[:count], found, strict=True):
            Image.open(picture).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)
    if len(found) < count:
        raise ValueError(f"{source} has {len(found)} {inputs}; the cell wants {count}.")
    return found


def run_arm(arm: str, inputs: str, listed: tuple[str, ...]) -> dict[str, float]:
    """Run one arm once, in its own process."""
    call = make_arm(arm, inputs, listed)
    start = (time.perf_counter(), time.process_time())
    call()
    return {"wall": time.perf_counter() - start[0], "cpu": time.process_time() - start[1]}


@cache
def make_arm(arm: str, inputs: str, listed: tuple[str, ...]) -> Callable[[], Any]:
    """Load the encoders and say what one run of the arm does; the first call of a process pays for it."""
    silence_transformers()
    side = "query" if inputs == "texts" else "context"
    names = str(convert_efficientnet_lite(image_size=SIZE)), str(minilm_l6_path())
    processor = OTMergeProcessor.from_encoders_pretrained(*names)
    model = OTMergeModel.from_encoders_pretrained(*names, shared_dim=64).eval()
    encoder: Any = getattr(model, f"{side}_encoder")
    if arm == "encode":
        given = list(listed) if inputs == "texts" else [Path(file) for file in listed]

        def whole() -> None:
            with tempfile.TemporaryDirectory() as folder:
                encode(model, processor, side, given, cache_dir=folder, progress=False)

        return whole
    row = modality_of(side, encoder)
    part = getattr(processor, row.processor_part)
    size = usual_batch_size(row, part, encoder.device) if arm == "same" else BATCH[inputs]
    made = list(prepared(inputs, listed, part, size)) if arm == "ready" else None

    @torch.no_grad()
    def bare() -> None:
        for batch in made or prepared(inputs, listed, part, size):
            encoder(**batch).last_hidden_state  # noqa: B018 -- nothing is kept

    return bare


def prepared(inputs: str, listed: tuple[str, ...], part: Any, size: int) -> Iterator[dict[str, torch.Tensor]]:
    """The encoder's inputs by hand, batch by batch: texts sorted by length, photographs in `channels_last`."""
    ordered = sorted(listed, key=len) if inputs == "texts" else listed
    for start in range(0, len(ordered), size):
        chosen = list(ordered[start : start + size])
        if inputs == "texts":
            yield dict(part(chosen, padding=True, truncation=True, return_tensors="pt"))
        else:
            pixels = part([Image.open(file).convert("RGB") for file in chosen], return_tensors="pt")["pixel_values"]
            yield {"pixel_values": pixels.to(memory_format=torch.channels_last)}
