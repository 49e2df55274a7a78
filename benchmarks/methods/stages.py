"""The two stages that methods share, under the stock Trainer, and what they cost."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..training import (
    MixedCollator,
    PairedLossCallback,
    ReconstructionLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    mixed_dataset,
    prioritize,
    set_stage,
)
from .flops import FlopCounter
from .recipe import Recipe
from .task import Rows, Task


@dataclass
class Phase:
    """One training: `steps` of `batch_size` rows, seconds, and operations counted on one full step and multiplied.

    `earlier` holds the part of the seconds, `wall` and `cpu`, that was spent before an interruption.
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
        guessed: Unlabelled questions learned from, with answers that a model guessed.
        pairs: Pairs seen as such.
        unpaired_contexts: Contexts seen without their statement.
        unpaired_queries: Statements seen without their context.
        raw: Whether the encoders changed, so that cached features are stale.
        blank: Sides (`context`, `query`) that were replaced by one fixed input.
        task: The task to test on where it is not the given one (its features are another encoder's).
    """

    model: OTMergeForQuestionAnswering | None = None
    predictions: torch.Tensor | None = None
    phases: list[Phase] = field(default_factory=list)
    labels: int = 0
    guessed: int = 0
    pairs: int = 0
    unpaired_contexts: int = 0
    unpaired_queries: int = 0
    raw: bool = False
    blank: tuple[str, ...] = ()
    task: Task | None = None


Method = Callable[[Task, Recipe], Fitted]


class _FirstStep(TrainerCallback):
    """Counts the operations of the first step that this process makes, and tells how far the training is."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self.counter, self.tell = FlopCounter(), tell
        self.state = "before"

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state == "before":
            self.counter.__enter__()
            self.state = "counting"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.state == "counting":
            self.counter.__exit__(None, None, None)
            self.state = "counted"
        self.tell(state.global_step / state.max_steps)


class _Spent(TrainerCallback):
    """Keeps the seconds spent so far beside each checkpoint, and knows those of the one that is resumed."""

    def __init__(self, last: str | None) -> None:
        self.start = time.perf_counter(), time.process_time()
        self.earlier = {"wall": 0.0, "cpu": 0.0}
        if last is not None:
            self.earlier = json.loads((Path(last) / "spent.json").read_text())

    def now(self) -> dict[str, float]:
        spent = {"wall": time.perf_counter() - self.start[0], "cpu": time.process_time() - self.start[1]}
        return {name: self.earlier[name] + seconds for name, seconds in spent.items()}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "spent.json").write_text(json.dumps(self.now()))


def train(
    task: Task,
    model: nn.Module,
    rows: Any,
    recipe: Recipe,
    *,
    name: str,
    steps: int,
    collator: Callable[[list[Any]], dict[str, Any]],
    callbacks: Sequence[TrainerCallback] = (),
    groups: list[dict[str, Any]] | None = None,
    long: bool = False,
    inputs_per_row: int = 1,
) -> Phase:
    """Run the stock Trainer over `rows` and account for it.

    Args:
        task: Where scratch files go and progress is told.
        model: What trains; set beforehand what learns.
        rows: The data.
        recipe: Batch size, learning rate, weight decay, seed.
        name: Of the phase.
        steps: Optimiser steps.
        collator: Of the rows.
        callbacks: Loss terms.
        groups: Parameter groups with their own learning rates; None for one group of all that learns.
        inputs_per_row: Inputs of each encoder that the collator makes of a row.
        long: Whether to keep a checkpoint every tenth, where the task has a place for them, and go on from the last.
    """
    kept = task.checkpoints if long else None
    last = _last_checkpoint(kept)
    counter, spent = _FirstStep(task.tell), _Spent(last)
    optimizer = None
    if groups is not None:
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(kept or task.scratch / name),
            max_steps=steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=min(20, steps // 10),
            weight_decay=recipe.weight_decay,
            logging_strategy="no",
            save_strategy="no" if kept is None else "steps",
            save_steps=-(-steps // 10),
            save_total_limit=2,
            report_to="none",
            disable_tqdm=True,
            seed=recipe.seed,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=collator,
        callbacks=[*callbacks, counter, spent],
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    prioritize(trainer).train(resume_from_checkpoint=last)
    seconds = spent.now()
    return Phase(
        name=name,
        steps=steps,
        batch_size=inputs_per_row * min(recipe.batch_size, len(rows)),
        rows=len(rows),
        wall_seconds=seconds["wall"],
        cpu_seconds=seconds["cpu"],
        flops=counter.counter.total * steps,
        earlier=spent.earlier,
    )


def _last_checkpoint(folder: Path | None) -> str | None:
    """The last checkpoint that was written whole: its seconds come last."""
    if folder is None:
        return None
    whole = [path.parent for path in folder.glob("checkpoint-*/spent.json")]
    return str(max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]))) if whole else None


def align(
    task: Task, model: OTMergeForQuestionAnswering, recipe: Recipe, callbacks: Sequence[TrainerCallback], paired: bool
) -> Fitted:
    """Train the adapters on statements, before any label.

    Args:
        task: Its `pairs`, and its unpaired rows if the recipe has a share of them.
        model: The merge.
        recipe: Steps and rates.
        callbacks: The loss terms.
        paired: Whether the terms may know which statement belongs to which context. If not, the contexts are
            shuffled among the rows: a batch would otherwise hold both sides of the same pairs, and their clouds would
            match by construction.
    """
    set_stage(model, "align")
    extra = [ReconstructionLossCallback(recipe.reconstruction_weight)] if recipe.reconstruction_weight > 0 else []
    rows = task.pairs
    collator: Any = task.cached()
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
        # one statement is true of many images: they are no negatives of each other
        data = rows.but(group_ids=rows.columns["query_features"])
        if task.unpaired_contexts and task.unpaired_queries:
            couples = list(zip(rows.columns["context_features"], rows.columns["query_features"], strict=True))
            unpaired = (task.unpaired_contexts, task.unpaired_queries)
            groups = rows.columns["query_features"]
            data = mixed_dataset(couples, *unpaired, 1, seed=recipe.seed, group_ids=groups)
            collator, inputs_per_row = MixedCollator(collator), 2
            seen.unpaired_contexts = len(set(task.unpaired_contexts))
            seen.unpaired_queries = len(set(task.unpaired_queries))
    steps = recipe.steps(len(data), recipe.align_epochs, recipe.align_min_steps)
    phase = train(
        task,
        model.otmerge,
        data,
        recipe,
        name="align",
        steps=steps,
        collator=collator,
        callbacks=[*callbacks, *extra],
        inputs_per_row=inputs_per_row,
    )
    seen.phases.append(phase)
    return seen


def _shuffled(values: list[int], count: int, generator: torch.Generator) -> list[int]:
    rounds = -(-count // len(values))
    order = torch.cat([torch.randperm(len(values), generator=generator) for _ in range(rounds)])[:count]
    return [values[place] for place in order.tolist()]


def fuse(task: Task, fitted: Fitted, recipe: Recipe, stage: str | None = None, guessed: Rows | None = None) -> Fitted:
    """Teach answers on cached features.

    Args:
        task: Its labelled questions.
        fitted: What came before; its model goes on.
        recipe: Steps and rates.
        stage: `both`, `fuse`, or None for what is set to learn already.
        guessed: More questions, with answers that a model guessed.
    """
    assert fitted.model is not None
    if stage is not None:
        set_stage(fitted.model, stage)
    rows = task.train if guessed is None else task.train.and_also(guessed)
    for side in fitted.blank:
        rows = rows.but(**{f"{side}_features": [0] * len(rows)})
    steps = recipe.steps(len(rows), recipe.epochs)
    phase = train(task, fitted.model, rows, recipe, name="fuse", steps=steps, collator=task.cached())
    fitted.phases.append(phase)
    fitted.labels, fitted.guessed = len(task.train), len(rows) - len(task.train)
    return fitted


def aligned(task: Task, recipe: Recipe, callbacks: Sequence[TrainerCallback], paired: bool, **choices: Any) -> Fitted:
    """Align by the given terms, then teach answers: what most methods are."""
    fitted = align(task, task.build(recipe, **choices), recipe, callbacks, paired)
    return fuse(task, fitted, recipe, recipe.fuse_stage)


def transport_terms(recipe: Recipe) -> list[TrainerCallback]:
    """The merge's own terms: pairs, Sinkhorn divergence, and the floor under the spread."""
    return [
        PairedLossCallback(recipe.paired_weight),
        SinkhornLossCallback(recipe.sinkhorn_weight, epsilon=recipe.epsilon),
        VarianceLossCallback(recipe.variance_weight),
    ]
