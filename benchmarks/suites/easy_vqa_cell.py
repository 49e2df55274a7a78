"""One cell of `easy-vqa`: features first, then one method on one recipe, fitted, tested and accounted for."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..methods import get_method
from ..methods.predict import predict
from ..methods.stages import Fitted
from ..runner.cell import Place, Record
from ..runner.encoding import ROWS, features_key
from ..runner.invertibility import reconstruction_errors
from ..runner.machine import machine, memory_mib, peak_memory_mib
from ..runner.measure import inference_times, shared_image_throughput
from ..runner.recipe import Recipe
from ..runner.records import Records
from ..tasks import easy_vqa
from ..tasks.task import NotApplicable, Task


def features_folder(recipe: Recipe, place: Place) -> Path:
    """Where the features that a recipe needs lie, with the rows of the data set."""
    return place.cache / f"easy-vqa-features-{features_key(recipe)}"


def prepare_features(recipe: Recipe, place: Place, work: Callable[..., None]) -> None:
    """Compute the features that a recipe needs, in a process of its own, if the record or the stores are missing."""
    file, folder = place.results / "features.jsonl", features_folder(recipe, place)
    record = Records(file).read().get(features_key(recipe))
    if record is not None:
        needed = (ROWS, *(record[side]["store"] for side in ("context", "query")))
        if all((folder / name).exists() for name in needed):
            return
    shutil.rmtree(folder, ignore_errors=True)  # else a part would be reused, and its cost not seen
    easy_vqa.write_rows(folder / ROWS)
    work("benchmarks.runner.encoding:encode_features", file, recipe=recipe.to_dict(), folder=str(folder.resolve()))


def run_cell(
    method: str,
    recipe: Recipe,
    features: Record,
    folder: Path,
    report_progress: Callable[[float], None] = lambda share: None,
    checkpoints: Path | None = None,
) -> Record:
    """Fit, test and account for one cell, in this process.

    Args:
        method: Its name.
        recipe: Its choices.
        features: The record of [`encoding.run_features`].
        folder: Where its stores are.
        report_progress: Called with the share of the training that is done.
        checkpoints: Where long trainings resume after an interruption; None: they start from the beginning.

    Returns:
        What was measured, or `refused` with the reason.
    """
    fit = get_method(method)
    result: Record = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        task = easy_vqa.load_task(recipe, features, folder, Path(scratch))
        task.report_progress, task.checkpoints = report_progress, checkpoints
        start_memory = memory_mib()
        start, start_cpu = time.perf_counter(), time.process_time()
        try:
            fitted = fit(task, recipe)
        except NotApplicable as error:
            return result | {"refused": str(error)}
        before = {name: sum(phase.earlier[name] for phase in fitted.phases) for name in ("wall", "cpu")}
        seconds = {
            "wall_seconds": time.perf_counter() - start + before["wall"],
            "cpu_seconds": time.process_time() - start_cpu + before["cpu"],
        }
        trainable = sum(p.numel() for p in fitted.model.parameters() if p.requires_grad) if fitted.model else 0
        memory = {"start_memory_mib": start_memory, "peak_memory_mib": peak_memory_mib()}
        correct = predictions(fitted, task) == task.test.labels()
        result |= {
            "accuracy": correct.float().mean().item(),
            "accuracy_by_kind": easy_vqa.by_kind(correct, task.test.labels()),
            "test_questions": len(correct),
            "data": _data(fitted, recipe, task),
            "compute": seconds | memory | {"trainable": trainable} | _operations(fitted, task, features),
            "phases": [vars(phase) for phase in fitted.phases],
        } | ({"chosen": fitted.notes} if fitted.notes else {})
        if fitted.model and not fitted.encoders_changed:
            result["reconstruction_error"] = reconstruction_errors(fitted.model.otmerge, fitted.task or task)
        # no seed changes how long an answer takes
        if fitted.model and fitted.predictions is None and recipe.seed == 0:
            result["inference"] = _inference(fitted, task, recipe.image_size)
    return result


def predictions(fitted: Fitted, task: Task) -> torch.Tensor:
    """Answers to the test rows, (N,) long."""
    if fitted.predictions is not None:
        return fitted.predictions
    assert fitted.model is not None
    task = fitted.task or task
    rows = task.test
    for side in fitted.blank_sides:
        rows = rows.with_columns(**{f"{side}_features": [0] * len(rows)})
    collator = task.raw_collator(share_contexts=True) if fitted.encoders_changed else task.cached_collator()
    return predict(fitted.model, rows, collator)


def _data(fitted: Fitted, recipe: Recipe, task: Task) -> dict[str, Any]:
    return {
        "labels": fitted.labels,
        "labelled_images": len(set(task.train.columns["context_features"])),
        "guessed": fitted.pseudo_labels,  # pseudo-labels; keys are those of finished cells
        "guessed_of_paired_images": bool(fitted.pseudo_labels and fitted.pairs) and recipe.statement_fraction == 1,
        "pairs": fitted.pairs,
        "unpaired_contexts": fitted.unpaired_contexts,
        "unpaired_queries": fitted.unpaired_queries,
        "statements_of_labelled_images": bool(fitted.pairs or fitted.unpaired_contexts) and recipe.label_fraction == 1,
    }


def _operations(fitted: Fitted, task: Task, features: dict[str, Any]) -> dict[str, float]:
    """Operations and seconds of the encoders, once per distinct input (cached) or for every row met (uncached)."""
    training = sum(phase.flops for phase in fitted.phases)
    if fitted.model is None or fitted.encoders_changed:
        return {"flops": training, "flops_uncached": training, "feature_cpu_seconds": 0.0, "feature_wall_seconds": 0.0}
    labelled = task.train.columns if fitted.labels else {}
    used = {side: set(labelled.get(f"{side}_features", ())) for side in ("context", "query")}
    if fitted.pseudo_labels and task.unlabelled is not None:
        for side in used:
            used[side] |= set(task.unlabelled.columns[f"{side}_features"])
    if fitted.pairs or fitted.unpaired_contexts:
        for side, offered in (("context", task.unpaired_contexts), ("query", task.unpaired_queries)):
            used[side] |= set(task.pairs.columns[f"{side}_features"]) | set(offered)
    per_row = sum(features[side]["flops_per_row"] for side in used)
    met = sum(phase.steps * phase.batch_size for phase in fitted.phases)
    once = sum(features[side]["flops_per_row"] * len(rows) for side, rows in used.items())
    shares = {side: len(rows) / features[side]["rows"] for side, rows in used.items()}
    return {
        "flops": training + once,
        "flops_uncached": training + met * per_row,
        "feature_cpu_seconds": sum(features[side]["cpu_seconds"] * share for side, share in shares.items()),
        "feature_wall_seconds": sum(features[side]["wall_seconds"] * share for side, share in shares.items()),
        "feature_peak_memory_mib": features["peak_memory_mib"],
        "feature_start_memory_mib": features["start_memory_mib"],
    }


def _inference(fitted: Fitted, task: Task, image_size: int) -> dict[str, Any]:
    assert fitted.model is not None
    times = {
        f"batch_{size}": inference_times(fitted.model, task.require_processor(), image_size, size, rounds=rounds)
        for size, rounds in ((1, 9), (32, 5))
    }
    throughput = shared_image_throughput(fitted.model, task.require_processor(), image_size)
    return {"image_size": image_size, "questions_per_second_of_ten": throughput} | times
