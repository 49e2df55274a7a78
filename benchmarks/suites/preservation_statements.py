"""One adapter of the suite `preservation` on easy-VQA: answers by the nearest statement, with an exact way back."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otmerge_hf.model.modality import SIDES
from otmerge_hf.training import ContrastiveLossCallback

from ..methods.nearest_statement import answer_by_statement
from ..methods.read_out import ReadOutAdapter
from ..methods.stages import align
from ..runner.cell import Place, Record
from ..runner.encoding import ROWS, run_features
from ..runner.invertibility import reconstruction_errors
from ..runner.recipe import Recipe
from ..runner.records import Records
from ..tasks import easy_vqa


def measure(choices: Mapping[str, Any], place: Place) -> Record:
    """Align on statements of unlabelled images as `statement_scoring` does, and answer the test questions."""
    recipe = Recipe(seed=choices["seed"], label_fraction=0.01, shared_dim=choices["shared_dim"])
    folder = place.cache / "easy-vqa-statements"
    kept = folder / "features.jsonl"
    if not kept.exists():
        easy_vqa.write_rows(folder / ROWS)
        Records(kept).add(run_features(recipe, folder))
    (features,) = Records(kept).read().values()
    with tempfile.TemporaryDirectory() as scratch:
        task = easy_vqa.load_task(recipe, features, folder, Path(scratch))
        task.report_progress = place.report_progress
        model = task.build(recipe)
        if choices["adapter"] != "mlp":
            for side, store in zip(SIDES, (task.context_store, task.query_store), strict=True):
                width, read = store.feature_dim, choices["read"]
                # where there is room for a copy beside what is read, everything read comes from the network
                lead = 0 if choices["shared_dim"] >= read + width else read
                adapter = ReadOutAdapter(width, choices["shared_dim"], read, lead, choices["scale"])
                setattr(model.otmerge, f"{side}_adapter", adapter)
        fitted = align(task, model, recipe, [ContrastiveLossCallback(1.0)], paired=True)
        answers = answer_by_statement(task, model.otmerge, task.test)
        errors = reconstruction_errors(model.otmerge, task)
    (phase,) = fitted.phases
    return {
        "accuracy": (answers == task.test.labels()).double().mean().item(),
        "error": {side: None if error is None else error**0.5 for side, error in errors.items()},
        "parameters": sum(p.numel() for side in SIDES for p in getattr(model.otmerge, f"{side}_adapter").parameters()),
        "cpu_seconds": phase.cpu_seconds,
    }
