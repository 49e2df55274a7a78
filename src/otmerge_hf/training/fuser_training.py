"""A fuser that trains by itself, beside a linear path that is held at zero; an interrupted training goes on."""

import copy
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainingArguments

from .adapter_checkpoints import AdapterCheckpoints
from .best import KeepBest, StopAt
from .kept import Kept, MarkComplete, last_complete
from .two_stages import Collator, train_answers


logger = logging.getLogger(__name__)
EVALUATIONS = 10  # of a training whose arguments ask for none


def plan_evaluations(args: TrainingArguments, rows: int) -> TrainingArguments:
    """Copy of the arguments that evaluates: ten times, where they ask for no evaluation."""
    planned = copy.copy(args)
    if planned.eval_strategy == "no":
        rows_a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * rows / rows_a_step)
        planned.max_steps = max(steps, 1)
        planned.eval_strategy, planned.eval_steps = "steps", math.ceil(planned.max_steps / EVALUATIONS)
    return planned


def train_fuser(
    model: nn.Module,
    rows: Any,
    collator: Collator,
    args: TrainingArguments,
    until: KeepBest | StopAt,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    eval_rows: Any = None,
    folder: Path | None = None,
    optimizer: Any = None,
    questions_per_context: int = 1,
) -> None:
    """Train what is set to learn; the linear path is to be zero: what it explains, a fuser learns more slowly.

    Args:
        until: Keeps the best state, where there are `eval_rows`, or stops the training.
        folder: Where checkpoints go, one at each evaluation of `args`; a training that was interrupted goes on from
            the last. None: no checkpoints.
        optimizer: In place of Trainer's own.
        questions_per_context: As of [`train_answers`].
    """
    args, start = copy.copy(args), None
    if folder is not None:
        args.output_dir, args.save_total_limit = str(folder), 2  # the last may be half written when the process dies
        args.save_strategy, args.save_steps = args.eval_strategy, args.eval_steps or args.save_steps
        start = last_complete(folder, until.steps if isinstance(until, StopAt) else math.inf)
        if start is not None and isinstance(until, KeepBest):
            until.load(Kept(start))
    if eval_rows is None:
        args.eval_strategy = "no"
    if isinstance(until, KeepBest) and (until.is_over or (start and start.name == f"checkpoint-{args.max_steps}")):
        return
    marks = [] if folder is None else [AdapterCheckpoints(), MarkComplete()]
    options: dict[str, Any] = {"stage": None, "compute_metrics": None, "callbacks": [*callbacks, until, *marks]}
    options["optimizers"], options["questions_per_context"] = (optimizer, None), questions_per_context
    if start is not None:
        logger.info("Going on from step %s of an interrupted run.", start.name.rpartition("-")[2])
    resume = None if start is None else str(start)
    train_answers(model, rows, collator, args, eval_questions=eval_rows, resume_from_checkpoint=resume, **options)
