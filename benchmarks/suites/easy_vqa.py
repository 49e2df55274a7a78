"""One method on one recipe: its settings, the key that they make, the run, and the JSON that is kept."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..baselines import Fitted, Recipe, Refused, Task, get_method, predict
from . import easy_vqa
from .encoding import FORMAT, feature_choices
from .invertibility import reconstruction_errors
from .measure import inference_times, machine, memory_mib, peak_memory_mib, shared_image_throughput


@dataclass(frozen=True)
class Cell:
    """One method, one recipe.

    Example:
        >>> cell = Cell("merged", Recipe())
        >>> cell.key == Cell("merged", Recipe(seed=1)).key
        False
        >>> cell.file.startswith("merged-")
        True
    """

    method: str
    recipe: Recipe
    suite: str = "easy-vqa"

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on."""
        return {"format": FORMAT, "suite": self.suite, "method": self.method, "recipe": self.recipe.to_dict()}

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def file(self) -> str:
        """Name of the JSON."""
        return f"{self.method}-{self.key}.json"

    @property
    def features_file(self) -> str:
        """Name of the JSON of the features that it uses."""
        choices = json.dumps(feature_choices(self.recipe))
        return f"features-{hashlib.sha256(choices.encode()).hexdigest()[:16]}.json"


def run_cell(
    cell: Cell,
    features: dict[str, Any],
    cache_dir: Path,
    tell: Callable[[float], None] = lambda share: None,
    checkpoints: Path | None = None,
) -> dict[str, Any]:
    """Fit, test and account for one cell, in this process.

    Args:
        cell: What to run.
        features: From [`encoding.run_features`].
        cache_dir: Where its stores are.
        tell: Called with the share of the training that is done.
        checkpoints: Where long trainings go on after an interruption; None: they start again.

    Returns:
        The cell's JSON.
    """
    method = get_method(cell.method)
    result: dict[str, Any] = {"key": cell.key, "settings": cell.settings, "machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        task = easy_vqa.load_task(cell.recipe, features, cache_dir, Path(scratch))
        task.tell, task.checkpoints = tell, checkpoints
        start_memory = memory_mib()
        start, start_cpu = time.perf_counter(), time.process_time()
        try:
            fitted = method(task, cell.recipe)
        except Refused as error:
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
            "data": _data(fitted, cell.recipe, task),
            "compute": seconds | memory | {"trainable": trainable} | _operations(fitted, task, features),
            "phases": [vars(phase) for phase in fitted.phases],
        }
        if fitted.model and not fitted.raw:
            result["reconstruction_error"] = reconstruction_errors(fitted.model.otmerge, fitted.task or task)
        # no seed changes how long an answer takes
        if fitted.model and fitted.predictions is None and cell.recipe.seed == 0:
            result["inference"] = _inference(fitted, task, cell.recipe.image_size)
    return result


def predictions(fitted: Fitted, task: Task) -> torch.Tensor:
    """Answers to the test rows, (N,) long."""
    if fitted.predictions is not None:
        return fitted.predictions
    assert fitted.model is not None
    task = fitted.task or task
    rows = task.test
    for side in fitted.blank:
        rows = rows.but(**{f"{side}_features": [0] * len(rows)})
    return predict(fitted.model, rows, task.raw() if fitted.raw else task.cached())


def _data(fitted: Fitted, recipe: Recipe, task: Task) -> dict[str, Any]:
    return {
        "labels": fitted.labels,
        "labelled_images": len(set(task.train.columns["context_features"])),
        "guessed": fitted.guessed,
        "guessed_of_paired_images": bool(fitted.guessed and fitted.pairs) and recipe.statement_fraction == 1,
        "pairs": fitted.pairs,
        "unpaired_contexts": fitted.unpaired_contexts,
        "unpaired_queries": fitted.unpaired_queries,
        "statements_of_labelled_images": bool(fitted.pairs or fitted.unpaired_contexts) and recipe.label_fraction == 1,
    }


def _operations(fitted: Fitted, task: Task, features: dict[str, Any]) -> dict[str, float]:
    """Operations and seconds of the encoders, once per distinct input (cached) or for every row met (uncached)."""
    training = sum(phase.flops for phase in fitted.phases)
    if fitted.model is None or fitted.raw:
        return {"flops": training, "flops_uncached": training, "feature_cpu_seconds": 0.0, "feature_wall_seconds": 0.0}
    labelled = task.train.columns if fitted.labels else {}
    used = {side: set(labelled.get(f"{side}_features", ())) for side in ("context", "query")}
    if fitted.guessed and task.unlabelled is not None:
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
        f"batch_{size}": inference_times(fitted.model, task.need_processor(), image_size, size, rounds=rounds)
        for size, rounds in ((1, 9), (32, 5))
    }
    throughput = shared_image_throughput(fitted.model, task.need_processor(), image_size)
    return {"image_size": image_size, "questions_per_second_of_ten": throughput} | times


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every cell's JSON in a folder of results, in order of file name.

    Raises:
        ValueError: If a file is of another format.
    """
    results = []
    for path in sorted((folder / "cells").glob("*.json")):
        result = json.loads(path.read_text())
        found = result.get("settings", {}).get("format")
        if found != FORMAT:
            raise ValueError(f"{path.name} is of format {found}; expected {FORMAT}.")
        results.append(result)
    return results
