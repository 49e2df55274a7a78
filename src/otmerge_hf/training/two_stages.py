"""The two stages of a merge under the stock Trainer: bring both sides into one space, then learn answers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from .attachment import base_model, find_host
from .callbacks import LossTermCallback, prioritize
from .stages import set_stage


def answer_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of the questions whose most likely answer is the label, `accuracy` in [0, 1]; for `compute_metrics`."""
    answers = np.asarray(prediction.predictions).argmax(-1)
    return {"accuracy": float((answers == prediction.label_ids).mean())}


def train_alignment(
    model: nn.Module,
    pairs: Any,
    collator: Callable[[list[Any]], dict[str, Any]],
    args: TrainingArguments,
    terms: Sequence[LossTermCallback],
    *,
    eval_pairs: Any = None,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from_checkpoint: str | bool | None = None,
) -> Trainer:
    """Stage one: the adapters learn from the loss terms alone.

    Args:
        model: A merge with or without a fuser; only its adapters, decoders and temperature learn.
        pairs: Rows of contexts and queries, as `collator` takes them; no labels.
        collator: Rows -> the model's inputs, such as [`features.FeatureCollator`].
        args: Of the stock Trainer.
        terms: The loss terms.
        eval_pairs: Rows to evaluate the terms on, when `args` asks for evaluations.
        callbacks: Further callbacks.
        resume_from_checkpoint: As in `Trainer.train`.

    Returns:
        The Trainer, after its training.
    """
    set_stage(model, "align")
    return _train(
        model=base_model(find_host(model)),
        args=args,
        train_dataset=pairs,
        eval_dataset=eval_pairs,
        data_collator=collator,
        callbacks=[*terms, *callbacks],
        resume_from_checkpoint=resume_from_checkpoint,
    )


def train_answers(
    model: nn.Module,
    questions: Any,
    collator: Callable[[list[Any]], dict[str, Any]],
    args: TrainingArguments,
    *,
    stage: str | None = "both",
    eval_questions: Any = None,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = answer_accuracy,
    terms: Sequence[LossTermCallback] = (),
    callbacks: Sequence[TrainerCallback] = (),
    optimizers: tuple[Any, Any] = (None, None),
    resume_from_checkpoint: str | bool | None = None,
) -> Trainer:
    """Stage two: fuser and answer head learn from labelled questions.

    Args:
        model: An [`OTMergeForQuestionAnswering`], possibly wrapped.
        questions: Rows of contexts, queries and `labels`, as `collator` takes them.
        collator: Rows -> the model's inputs.
        args: Of the stock Trainer.
        stage: `"both"` (adapters learn too), `"fuse"`, or None for what is set to learn already.
        eval_questions: Rows to evaluate on, during the training (if `args` says so) or by `evaluate()` after it.
        compute_metrics: As the Trainer takes it.
        terms: Loss terms beside the answers' loss.
        callbacks: Further callbacks.
        optimizers: Optimiser and schedule, as the Trainer takes them.
        resume_from_checkpoint: As in `Trainer.train`.

    Returns:
        The Trainer, after its training.
    """
    if stage is not None:
        set_stage(model, stage)
    return _train(
        model=model,
        args=args,
        train_dataset=questions,
        eval_dataset=eval_questions,
        data_collator=collator,
        compute_metrics=compute_metrics,
        callbacks=[*terms, *callbacks],
        optimizers=optimizers,
        resume_from_checkpoint=resume_from_checkpoint,
    )


def _train(*, args: TrainingArguments, resume_from_checkpoint: str | bool | None, **options: Any) -> Trainer:
    trainer = Trainer(args=args, **options)
    if args.logging_strategy == "no":
        trainer.remove_callback(PrinterCallback)  # it would print the closing summary all the same
    prioritize(trainer).train(resume_from_checkpoint=resume_from_checkpoint)
    return trainer
