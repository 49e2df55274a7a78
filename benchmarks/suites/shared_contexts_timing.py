"""Measuring of the suite `shared-contexts`: the same training, its questions apart and together."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from otmerge_hf.training import train_answers

from ..methods.grown import PATH
from ..methods.stages import training_arguments
from ..runner.recipe import Recipe
from ..tasks import get_loader
from ..tasks.task import Task
from .photographs import RECIPE


def compare(
    data: Path,
    cache: Path,
    report_progress: Callable[[float], None],
    seed: int,
    questions_per_context: int,
    epochs: int,
) -> dict[str, Any]:
    """Seconds of an epoch's steps, photographs a batch, and validation after the training, both ways.

    Which of the two comes first changes with the seed.
    """
    recipe = Recipe(**RECIPE | {"seed": seed, "epochs": epochs})
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        task = get_loader("daquar")(recipe, data, cache, Path(scratch))
        ways = [("apart", 1), ("together", questions_per_context)]
        train(task, recipe.replace(max_steps=3), 1)  # what is slow once: imports, the page cache
        for turn, (name, most) in enumerate(ways if seed % 2 == 0 else ways[::-1]):
            found[name] = train(task, recipe, most)
            report_progress((turn + 1) / len(ways))
    return found


class StepClock(TrainerCallback):
    """Wall and CPU seconds of a training's steps, batches included."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.start = time.perf_counter(), time.process_time()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.spent = time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def train(task: Task, recipe: Recipe, most: int) -> dict[str, float]:
    """Train fuser and adapters for the recipe's epochs, then validate."""
    model, clock = task.build(recipe, linear_path=list(PATH), adapter_type="linear"), StepClock()
    contexts: list[int] = []
    adapter: Any = model.otmerge.context_adapter
    adapter.register_forward_hook(lambda *call: contexts.append(len(call[-1])))
    steps = recipe.steps(len(task.train), recipe.epochs)
    arguments = training_arguments(recipe, task.scratch / "shared", steps, per_device_eval_batch_size=256)
    options: dict[str, Any] = {"eval_questions": task.validation, "callbacks": [clock]}
    trainer = train_answers(
        model, task.train, task.cached_collator(), arguments, questions_per_context=most, **options
    )
    a_batch = sum(contexts) / len(contexts)
    after = trainer.evaluate()
    epochs = steps * recipe.batch_size / len(task.train)
    return {
        "wall": clock.spent[0] / epochs,
        "cpu": clock.spent[1] / epochs,
        "contexts": a_batch,
        "loss": after["eval_loss"],
        "accuracy": after["eval_accuracy"],
    }
