"""One cell of `photographs`: a task read, a method fitted, and its answers scored."""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from otmerge_hf.metrics import noun_similarity, wups
from otmerge_hf.metrics.wups import WORDNET

from ..methods import get_method
from ..runner.cell import Record
from ..runner.machine import machine
from ..runner.recipe import Recipe
from ..tasks import get_loader
from ..tasks.task import NotApplicable
from .easy_vqa_cell import predictions


THRESHOLDS = (0.9, 0.0)


def run_cell(
    task_name: str,
    method: str,
    recipe: Recipe,
    data: Path,
    cache: Path,
    report_progress: Callable[[float], None],
    checkpoints: Path,
) -> Record:
    """Fit and test one method on one task; `accuracy` counts answers outside the vocabulary as wrong.

    WUPS is there for DAQUAR, where nltk and WordNet are installed.
    """
    fit = get_method(method)
    with tempfile.TemporaryDirectory() as scratch:
        task = get_loader(task_name)(recipe, data, cache, Path(scratch))
        task.report_progress, task.checkpoints = report_progress, checkpoints
        start, start_cpu = time.perf_counter(), time.process_time()
        try:
            fitted = fit(task, recipe)
        except NotApplicable as error:
            return {"machine": machine(), "refused": str(error)}
        seconds = {
            "wall_seconds": time.perf_counter() - start + sum(phase.earlier["wall"] for phase in fitted.phases),
            "cpu_seconds": time.process_time() - start_cpu + sum(phase.earlier["cpu"] for phase in fitted.phases),
        }
        answered = predictions(fitted, task)
        result: Record = {
            "machine": machine(),
            "accuracy": (answered == task.test.labels()).float().mean().item(),
            "test_questions": len(answered),
            "labels": fitted.labels,
            "pairs": fitted.pairs,
            "trainable": sum(p.numel() for p in fitted.model.parameters() if p.requires_grad) if fitted.model else 0,
            "compute": seconds | {"flops": sum(phase.flops for phase in fitted.phases)},
            "phases": [vars(phase) for phase in fitted.phases],
            "chosen": fitted.notes,
        }
        if task_name.startswith("daquar") and WORDNET.is_dir() and importlib.util.find_spec("nltk"):
            words, similarity = [task.answers[answer] for answer in answered.tolist()], noun_similarity()
            result["wups"] = {str(t): wups(words, task.references["test"], t, similarity) for t in THRESHOLDS}
    return result
