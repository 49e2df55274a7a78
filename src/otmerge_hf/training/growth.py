"""Answers that grow: a linear path first, then a fuser beside it, as far as validation gains."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset
from transformers import TrainerCallback, TrainingArguments

from ..model.linear_path import LinearPath
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .attachment import find_host
from .best import KeepBest, StopAt
from .fuser_training import plan_evaluations, train_fuser
from .kept import Kept, read_linear_fit, write_linear_fit
from .linear_fit import LinearFit, fit_linear_path, is_gain
from .logistic import answer_losses
from .measuring import answer_logits, drawn_rows, measure_parts, path_of, put_answer_texts
from .shared_contexts import by_context, check_sharing
from .stages import set_stage
from .two_stages import Collator, check_questions


logger = logging.getLogger(__name__)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Shares(NamedTuple):
    """What the fuser's and the linear path's logits count for, each in [0, 1]."""

    fuser: float
    path: float


@dataclass(frozen=True)
class Growth:
    """How far a merge grew, by [`grow_answers`].

    Attributes:
        linear: The linear path, with the validation loss after each part.
        linear_loss: Validation loss in nats of the linear path alone.
        mixed_loss: The same of the best mixture with a fuser.
        shares: What was kept; the fuser's is 0 where the mixture was no gain.
        fuser_steps: Optimiser steps after which the fuser was best; 0 where it was left out.
        fuser_losses: Its validation loss at each evaluation.
    """

    linear: LinearFit
    linear_loss: float
    mixed_loss: float
    shares: Shares
    fuser_steps: int
    fuser_losses: tuple[float, ...]

    def __str__(self) -> str:
        entered = ", ".join(f"{name} {loss:.4f}" for name, loss in self.linear.losses.items())
        kept = ", ".join(self.linear.strengths) or "nothing"
        fuser = f"kept, trained for {self.fuser_steps} steps" if self.shares.fuser else "left out"
        return (
            f"Validation loss by part: {entered}; kept: {kept}. With the fuser {self.mixed_loss:.4f}; it is {fuser}. "
            f"The logits are {self.shares.fuser:g} times its own plus {self.shares.path:g} times the linear path's."
        )


def grow_answers(
    model: nn.Module,
    questions: Any,
    collator: Collator,
    args: TrainingArguments,
    *,
    eval_questions: Any,
    processor: OTMergeProcessor | None = None,
    stage: str = "both",
    refit: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    keep: str | os.PathLike | None = None,
    questions_per_context: int = 1,
) -> Growth:
    """Stage two, grown: fit the linear path, train the fuser by itself, and keep what validation gains by.

    With few labels a fuser learns the training questions by heart; a linear model of words and geometry does not. With
    many the fuser is the better one. Validation decides: it should hold other contexts than the training does. A fuser
    that by half of its steps adds nothing to the path there learns no further. Where `model.class_weights` are set
    ([`balanced_weights`]), every loss counts rows by them, validation's too.

    Args:
        model: An [`OTMergeForQuestionAnswering`] with a `linear_path`, its adapters aligned.
        questions: Rows of contexts, queries and `labels`, as `collator` takes them.
        collator: As in [`train_alignment`].
        args: Of the stock Trainer, for the fuser. Where they ask for no evaluation, there are ten.
        eval_questions: Rows that decide; they are not trained on before `refit`.
        processor: The model's: reads the answers' names (`config.id2label`), which the part `answers` compares the
            context with. None leaves that part as it is.
        stage: What learns beside the linear path: `"both"` (fuser and adapters) or `"fuse"`.
        refit: Train once more, on both sets of rows, with what was chosen: longer, and better where labels are few.
        callbacks: Further callbacks of the fuser's trainings, of that after `refit` too.
        keep: Folder where what is finished is kept, and the fuser's checkpoints: after an interruption the same call
            on the same model gives the same parameters, and does nothing twice. Other rows, settings or models need
            another folder. None: nothing is kept.
        questions_per_context: As of [`train_answers`], for the fuser's trainings.

    Raises:
        ValueError: If the model has no linear path, rows are missing or unlabelled, or `questions_per_context` cannot
            be.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, ViTConfig, default_data_collator
        >>> from otmerge_hf import OTMergeConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(
        ...     ViTConfig(**small), BertConfig(**small), shared_dim=8, linear_path=["query", "context", "cosine"]
        ... )
        >>> row = lambda i: {"context_features": torch.randn(4, 16), "query_features": torch.randn(3, 16) + i % 2}
        >>> rows = [row(i) | {"labels": i % 2} for i in range(60)]
        >>> args = TrainingArguments(tempfile.mkdtemp(), max_steps=4, logging_strategy="no", disable_tqdm=True)
        >>> model = OTMergeForQuestionAnswering(config)
        >>> growth = grow_answers(model, rows[:40], default_data_collator, args, eval_questions=rows[40:])
        >>> "query" in growth.linear.strengths
        True
    """
    host = find_host(model)
    if not isinstance(host, OTMergeForQuestionAnswering):
        raise ValueError(f"`model` is a {type(host).__name__}; expected an OTMergeForQuestionAnswering.")
    path, kept = path_of(host), Kept(keep)
    if stage not in ("both", "fuse"):
        raise ValueError(f"`stage` is {stage!r}; expected both or fuse.")
    for name, rows in (("questions", questions), ("eval_questions", eval_questions)):
        if not hasattr(rows, "__len__"):
            raise ValueError(f"`{name}` is a {type(rows).__name__}; expected rows with a length, such as a Dataset.")
        check_questions(rows, collator, name)
    check_sharing(questions, collator, args, questions_per_context)
    if "answers" in path.parts:
        if processor is not None:
            put_answer_texts(host, processor)
        elif not path.answer_embeds.any():
            logger.warning("`processor` is None: the answers' texts are not read; their part of the path stays out.")
    size, count = args.per_device_eval_batch_size, len(path.bias)
    fitted = drawn_rows(questions, count, "questions")
    eval_questions = drawn_rows(eval_questions, count, "eval_questions")
    start_parts = measured = [measure_parts(host, rows, collator, size) for rows in (fitted, eval_questions)]
    (parts, labels), (eval_parts, eval_labels) = measured
    weights = host.class_weights if host.class_weights is None else host.class_weights.cpu()
    linear = read_linear_fit(kept, "linear")
    if linear is None:
        linear = fit_linear_path(parts, labels, eval_parts, eval_labels, count, class_weights=weights)
        write_linear_fit(kept, "linear", linear)
    path.load(linear.weights, linear.bias)
    alone = _combined(path, eval_parts)
    before = answer_losses(alone, eval_labels, weights)

    def is_hopeless() -> bool:
        """Whether the fuser as it now is adds nothing to the path as it is without it."""
        now = answer_logits(host, eval_questions, collator, size)
        if is_gain(before, _mix(now, alone, eval_labels, weights)[1]):
            return False
        logger.info("At half of its steps the fuser, as it is, adds nothing to the linear path: it learns no further.")
        return True

    start = {name: value.detach().clone() for name, value in host.named_parameters() if _may_learn(name, value)}
    set_stage(model, stage)
    moves = any(value.requires_grad for value in host.otmerge.parameters())  # what the path reads, with the fuser
    planned, best = plan_evaluations(args, len(questions)), KeepBest(host, is_hopeless=is_hopeless)
    options: dict[str, Any] = {"callbacks": callbacks, "questions_per_context": questions_per_context}
    path.load({}, torch.zeros_like(path.bias))
    if not best.load(kept, "fuser"):
        folder = kept.folder and kept.folder / "fuser"
        said = "Learning from the training rows, at most %d steps: fewer where validation gains no more."
        logger.info(said, planned.max_steps)
        # side by side, where a batch shares contexts; else as they were given, for terms that compare rows of a batch
        ordered = by_context(eval_questions, collator)[0] if questions_per_context > 1 else eval_questions
        train_fuser(model, questions, collator, planned, best, eval_rows=ordered, folder=folder, **options)
        logger.info("Best on validation after %d steps.", best.steps)
        best.keep(kept, "fuser")
    best.restore()
    fused = answer_logits(host, eval_questions, collator, size)
    if moves:
        measured = [measure_parts(host, rows, collator, size) for rows in (fitted, eval_questions)]
        (parts, labels), (eval_parts, eval_labels) = measured
    beside = fit_linear_path(parts, labels, {}, labels[:0], count, again=linear, class_weights=weights)
    path.load(beside.weights, beside.bias)
    shares, after = _mix(fused, _combined(path, eval_parts), eval_labels, weights)
    if not is_gain(before, after):
        shares = Shares(fuser=0.0, path=1.0)
    steps = best.steps if shares.fuser else 0
    growth = Growth(linear, float(before.mean()), float(after.mean()), shares, steps, tuple(best.losses))
    logger.debug("%s", growth)
    every: Any = ConcatDataset([questions, eval_questions])
    if refit or not shares.fuser:
        host.load_state_dict(start, strict=False)
        if shares.fuser:
            path.load({}, torch.zeros_like(path.bias))
            if (trained := kept.read("refit")) is None:
                logger.info("Learning once more, from training and validation rows: %d steps.", best.steps)
                folder = kept.folder and kept.folder / "refit"
                train_fuser(model, every, collator, planned, StopAt(best.steps), folder=folder, **options)
                kept.write("refit", {name: value for name, value in host.named_parameters() if name in start}, {})
            else:
                host.load_state_dict(trained[0], strict=False)
        beside = linear
        if refit:
            if shares.fuser and moves:
                parts, labels = measure_parts(host, drawn_rows(every, count), collator, size)
            else:  # what the path reads is as it was at the start
                parts = {name: torch.cat([each[name] for each, _ in start_parts]) for name in parts}
                labels = torch.cat([some for _, some in start_parts])
            beside = fit_linear_path(parts, labels, {}, labels[:0], count, again=linear, class_weights=weights)
    path.load({name: shares.path * weight for name, weight in beside.weights.items()}, shares.path * beside.bias)
    with torch.no_grad():
        for parameter in host.classifier[-1].parameters():
            parameter.mul_(shares.fuser)
    return growth


def _may_learn(name: str, parameter: Tensor) -> bool:
    return "_encoder." not in name or parameter.requires_grad


def _combined(path: LinearPath, parts: dict[str, Tensor]) -> Tensor:
    """Logits (N, L), on the CPU, of parts that were measured."""
    with torch.no_grad():
        return path.combine({name: part.to(path.bias.device) for name, part in parts.items()}).cpu()


def _mix(fused: Tensor, linear: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Shares, Tensor]:
    """Shares of the two, (N, L) logits each, that are best on validation, and the losses (N,) there."""
    tried = [Shares(fuser, path) for fuser in _SHARES[1:] for path in _SHARES]
    losses = [answer_losses(one.fuser * fused + one.path * linear, labels, weights) for one in tried]
    best = min(range(len(tried)), key=lambda place: float(losses[place].mean()))
    return tried[best], losses[best]
