"""The two stages that methods share, trained by `otmerge_hf.training`, and what they cost."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering
from otmerge_hf.training import (
    LossTermCallback,
    MixedCollator,
    ReconstructionLossCallback,
    mixed_dataset,
    train_alignment,
    train_answers,
)

from ..runner.flops import FlopCounter
from ..runner.recipe import Recipe
from ..tasks.task import Rows, Task


@dataclass
class Phase:
    """One training: `steps` of `batch_size` rows, seconds, and operations counted on one full step and multiplied.

    `earlier` holds the part of the seconds, `wall` and `cpu`, that was spent before resuming.
    """

    name: str
    steps: int
    batch_size: int  # inputs of each encoder; a block of a mixed batch holds several
    rows: int
    wall_seconds: float
    cpu_seconds: float
    flops: int
    earlier: dict[str, float] = field(default_factory=lambda: {"wall": 0.0, "cpu": 0.0})


@dataclass
class Fitted:
    """What a method hands back.

    Attributes:
        model: What was trained; None where nothing was.
        predictions: Answers to the test rows, (N,); None where the model gives them.
        phases: Trainings, in order.
        labels: Labelled questions seen.
        pseudo_labels: Unlabelled questions learned from, with answers that a model gave.
        pairs: Pairs seen as such.
        unpaired_contexts: Contexts seen without their statement.
        unpaired_queries: Statements seen without their context.
        encoders_changed: Whether the encoders trained, so that cached features are stale.
        blank_sides: Sides (`context`, `query`) that were replaced by one fixed input.
        task: The task to test on where it is not the given one (its features are another encoder's).
        notes: What the method chose, as plain data.
    """

    model: OTMergeForQuestionAnswering | None = None
    predictions: torch.Tensor | None = None
    phases: list[Phase] = field(default_factory=list)
    labels: int = 0
    pseudo_labels: int = 0
    pairs: int = 0
    unpaired_contexts: int = 0
    unpaired_queries: int = 0
    encoders_changed: bool = False
    blank_sides: tuple[str, ...] = ()
    task: Task | None = None
    notes: dict[str, Any] = field(default_factory=dict)


MethodFunction = Callable[[Task, Recipe], Fitted]


class _FirstStepFlops(TrainerCallback):
    """Counts the operations of the first step that this process makes, and reports the training's progress."""

    def __init__(self, report_progress: Callable[[float], None]) -> None:
        self.counter, self.report_progress = FlopCounter(), report_progress
        self.state = "before"

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state == "before":
            self.counter.__enter__()
            self.state = "counting"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state == "counting":
            self.counter.__exit__(None, None, None)
            self.state = "counted"
        self.report_progress(state.global_step / state.max_steps)


class _SecondsSpent(TrainerCallback):
    """Keeps the seconds spent so far beside each checkpoint, and knows those of the one that is resumed."""

    def __init__(self, last_checkpoint: str | None) -> None:
        self.start = time.perf_counter(), time.process_time()
        self.earlier = {"wall": 0.0, "cpu": 0.0}
        if last_checkpoint is not None:
            self.earlier = json.loads((Path(last_checkpoint) / "spent.json").read_text())

    def now(self) -> dict[str, float]:
        spent = {"wall": time.perf_counter() - self.start[0], "cpu": time.process_time() - self.start[1]}
        return {name: self.earlier[name] + seconds for name, seconds in spent.items()}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "spent.json").write_text(json.dumps(self.now()))


def training_arguments(recipe: Recipe, folder: Path, steps: int, **more: Any) -> TrainingArguments:
    """The recipe's rates for a training of so many steps, silent; `more` are fields of the stock arguments."""
    options: dict[str, Any] = {
        "max_steps": steps,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(20, steps // 10),
        "weight_decay": recipe.weight_decay,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": recipe.seed,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(str(folder), **options | more)


class Accounting:
    """Arguments and callbacks of one training under the stock Trainer, and, when it has ended, what it cost.

    Args:
        task: Where scratch files go and progress is reported.
        recipe: Batch size, learning rate, weight decay, seed.
        name: Of the phase.
        steps: Optimiser steps.
        long: Whether to keep a checkpoint every 10%, where the task has a place for them, and resume from the last.

    Attributes:
        arguments: For the Trainer.
        callbacks: For the Trainer, after the loss terms.
        last_checkpoint: Where to resume; None to start from the beginning.
    """

    def __init__(self, task: Task, recipe: Recipe, name: str, steps: int, *, long: bool = False) -> None:
        kept = task.checkpoints if long else None
        self.name, self.steps, self.batch_size = name, steps, recipe.batch_size
        self.last_checkpoint = _last_checkpoint(kept)
        self._flops, self._seconds = _FirstStepFlops(task.report_progress), _SecondsSpent(self.last_checkpoint)
        self.callbacks: list[TrainerCallback] = [self._flops, self._seconds]
        self.arguments = training_arguments(
            recipe,
            kept or task.scratch / name,
            steps,
            save_strategy="no" if kept is None else "steps",
            save_steps=-(-steps // 10),
            save_total_limit=2,
        )

    def phase(self, rows: int, inputs_per_row: int = 1) -> Phase:
        """What the training cost.

        Args:
            rows: Rows of its data.
            inputs_per_row: Inputs of each encoder that the collator makes of a row.
        """
        seconds = self._seconds.now()
        return Phase(
            name=self.name,
            steps=self.steps,
            batch_size=inputs_per_row * min(self.batch_size, rows),
            rows=rows,
            wall_seconds=seconds["wall"],
            cpu_seconds=seconds["cpu"],
            flops=self._flops.counter.total * self.steps,
            earlier=self._seconds.earlier,
        )


def _last_checkpoint(folder: Path | None) -> str | None:
    """The last checkpoint that was written whole: its seconds come last."""
    if folder is None:
        return None
    whole = [path.parent for path in folder.glob("checkpoint-*/spent.json")]
    return str(max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]))) if whole else None


def align(
    task: Task, model: OTMergeForQuestionAnswering, recipe: Recipe, terms: Sequence[LossTermCallback], paired: bool
) -> Fitted:
    """Train the adapters on statements, before any label.

    Args:
        task: Its `pairs`, and its unpaired rows if the recipe has a share of them.
        model: The merge.
        recipe: Steps and rates.
        terms: The loss terms.
        paired: Whether the terms may know which statement belongs to which context. If not, the contexts are
            shuffled among the rows: a batch would otherwise hold both sides of the same pairs, and their clouds would
            match by construction.
    """
    extra = [ReconstructionLossCallback(recipe.reconstruction_weight)] if recipe.reconstruction_weight > 0 else []
    rows = task.pairs
    collator: Any = task.cached_collator()
    seen = Fitted(model=model)
    data: Any = rows
    inputs_per_row = 1
    if not paired:
        generator = torch.Generator().manual_seed(recipe.seed)
        columns = rows.columns
        contexts = [*columns["context_features"], *task.unpaired_contexts]
        queries = [*columns["query_features"], *task.unpaired_queries]
        data = Rows(*(_shuffled(side, max(len(contexts), len(queries)), generator) for side in (contexts, queries)))
        seen.unpaired_contexts, seen.unpaired_queries = len(set(contexts)), len(set(queries))
    else:
        seen.pairs = len(rows)
        # one statement is true of many images, or one image has many captions: they are no negatives of each other
        groups = rows.columns.get("group_ids", rows.columns["query_features"])
        data = rows.with_columns(group_ids=groups)
        if task.unpaired_contexts and task.unpaired_queries:
            couples = list(zip(rows.columns["context_features"], rows.columns["query_features"], strict=True))
            unpaired = (task.unpaired_contexts, task.unpaired_queries)
            data = mixed_dataset(couples, *unpaired, 1, seed=recipe.seed, group_ids=groups)
            collator, inputs_per_row = MixedCollator(collator), 2
            seen.unpaired_contexts = len(set(task.unpaired_contexts))
            seen.unpaired_queries = len(set(task.unpaired_queries))
    account = Accounting(task, recipe, "align", recipe.steps(len(data), recipe.align_epochs, recipe.align_min_steps))
    train_alignment(model, data, collator, account.arguments, [*terms, *extra], callbacks=account.callbacks)
    seen.phases.append(account.phase(len(data), inputs_per_row))
    return seen


def _shuffled(values: list[int], count: int, generator: torch.Generator) -> list[int]:
    rounds = -(-count // len(values))
    order = torch.cat([torch.randperm(len(values), generator=generator) for _ in range(rounds)])[:count]
    return [values[place] for place in order.tolist()]


def learn_answers(
    task: Task, fitted: Fitted, recipe: Recipe, stage: str | None = None, pseudo_labelled: Rows | None = None
) -> Fitted:
    """Learn answers on cached features.

    Args:
        task: Its labelled questions.
        fitted: What came before; its model goes on.
        recipe: Steps and rates.
        stage: `both`, `fuse`, or None for what is set to learn already.
        pseudo_labelled: More questions, with answers that a model gave.
    """
    assert fitted.model is not None
    rows = task.train if pseudo_labelled is None else task.train.concatenate(pseudo_labelled)
    for side in fitted.blank_sides:
        rows = rows.with_columns(**{f"{side}_features": [0] * len(rows)})
    account = Accounting(task, recipe, "fuse", recipe.steps(len(rows), recipe.epochs))
    train_answers(
        fitted.model, rows, task.cached_collator(), account.arguments, stage=stage, callbacks=account.callbacks
    )
    fitted.phases.append(account.phase(len(rows)))
    fitted.labels, fitted.pseudo_labels = len(task.train), len(rows) - len(task.train)
    return fitted
