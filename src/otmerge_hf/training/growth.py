"""Answers that grow: a linear path first, then the fuser, as far as validation gains by it."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader
from transformers import TrainerCallback, TrainingArguments

from ..model.linear_path import LinearPath
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .attachment import find_host
from .best import KeepBest, StopAt
from .linear_fit import LinearFit, answer_losses, fit_linear_path, is_gain
from .two_stages import Collator, check_questions, train_answers


logger = logging.getLogger(__name__)
EVALUATIONS = 10  # of a training whose arguments ask for none
_SCALES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Growth:
    """How far a merge grew, by [`grow_answers`].

    Attributes:
        linear: The linear path, with the validation loss after each part.
        linear_loss: Validation loss in nats of the linear path alone.
        fuser_loss: The same with the fuser at its best; not below `linear_loss` where it did not help.
        fuser_scale: Share of the fuser's logits that was kept; 0 where validation did not gain by it.
        fuser_steps: Optimiser steps after which the fuser was best.
        losses: Validation loss at each evaluation of the fuser's training.
    """

    linear: LinearFit
    linear_loss: float
    fuser_loss: float
    fuser_scale: float
    fuser_steps: int
    losses: tuple[float, ...]

    def __str__(self) -> str:
        entered = ", ".join(f"{name} {loss:.4f}" for name, loss in self.linear.losses.items())
        kept = ", ".join(self.linear.strengths) or "nothing"
        fuser = f"kept at {self.fuser_scale:g} after {self.fuser_steps} steps" if self.fuser_scale else "left out"
        return f"validation loss: {entered}; the path keeps {kept}; fuser {self.fuser_loss:.4f}: {fuser}"


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
) -> Growth:
    """Stage two, grown: fit the linear path, then train the fuser from zero and keep what validation gains by.

    With few labels a fuser learns the training questions by heart; a linear model of words and geometry does not. With
    many the fuser is the better one. Validation decides: it should hold other contexts than the training does.

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
        callbacks: Further callbacks of the fuser's training.

    Raises:
        ValueError: If the model has no linear path, or rows are missing or unlabelled.

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
    _path(host)
    for name, rows in (("questions", questions), ("eval_questions", eval_questions)):
        if not hasattr(rows, "__len__"):
            raise ValueError(f"`{name}` is a {type(rows).__name__}; expected rows with a length, such as a Dataset.")
        check_questions(rows, collator, name)
    if processor is not None and "answers" in host.config.linear_path:
        put_answer_texts(host, processor)
    size = args.per_device_eval_batch_size
    measured = [measure_parts(host, rows, collator, size) for rows in (questions, eval_questions)]
    (parts, labels), (eval_parts, eval_labels) = measured
    count = len(_path(host).bias)
    linear = fit_linear_path(parts, labels, eval_parts, eval_labels, count)
    start = _start(host, linear)
    before = answer_losses(_logits(host, eval_questions, collator, size), eval_labels)

    planned = copy.copy(args)
    if planned.eval_strategy == "no":
        rows_a_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        epochs = int(args.num_train_epochs * len(questions) / rows_a_step)
        steps = args.max_steps if args.max_steps > 0 else max(epochs, EVALUATIONS)
        planned.max_steps, planned.eval_strategy, planned.eval_steps = steps, "steps", -(-steps // EVALUATIONS)
    best = KeepBest(host, float(before.mean()))
    options: dict[str, Any] = {"stage": stage, "compute_metrics": None}
    train_answers(
        model, questions, collator, planned, eval_questions=eval_questions, callbacks=[*callbacks, best], **options
    )
    best.restore()
    scale, loss = (
        _scale_fuser(host, eval_questions, collator, size, before, eval_labels)
        if best.steps
        else (0.0, min(best.losses))
    )
    growth = Growth(linear, float(before.mean()), loss, scale, best.steps if scale else 0, tuple(best.losses))
    logger.info("%s", growth)
    if not scale:
        host.load_state_dict(start, strict=False)
    if refit:
        both = {name: torch.cat([part, eval_parts[name]]) for name, part in parts.items()}
        every = torch.cat([labels, eval_labels])
        refitted = fit_linear_path(both, every, {}, every[:0], count, strengths=linear.strengths)
        host.load_state_dict(start, strict=False)
        _start(host, refitted)
        if scale:
            planned.eval_strategy = "no"
            stop = StopAt(best.steps)
            every_row: ConcatDataset[Any] = ConcatDataset([questions, eval_questions])
            train_answers(model, every_row, collator, planned, callbacks=[*callbacks, stop], **options)
            _multiply(host, scale)
    return growth


def put_answer_texts(model: OTMergeForQuestionAnswering, processor: OTMergeProcessor) -> None:
    """Put the shared embeddings of the answers' names (`config.id2label`) into the linear path's part `answers`.

    Raises:
        ValueError: If the model has no such part.
    """
    if "answers" not in _path(model).parts:
        raise ValueError(f"`linear_path` is {list(_path(model).parts)}; expected `answers` among its parts.")
    names = [name for _, name in sorted((int(place), name) for place, name in (model.config.id2label or {}).items())]
    inputs = processor(text=names, return_tensors="pt", padding=True).to(model.device)
    with torch.no_grad():
        _path(model).answer_embeds.copy_(model.eval().otmerge.get_query_embeds(**inputs))


def _path(model: OTMergeForQuestionAnswering) -> LinearPath:
    if model.linear_path is None:
        raise ValueError("`model` has no linear path; build it with `linear_path` in its configuration.")
    return model.linear_path


@torch.no_grad()
def measure_parts(
    model: OTMergeForQuestionAnswering, rows: Any, collator: Collator, batch_size: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Parts of the linear path, (N, W) each, and labels (N,) of the rows; on the processor, without gradient."""
    path = _path(model)
    model.eval()
    found: dict[str, list[Tensor]] = {name: [] for name in (*path.parts, "labels")}
    for batch in DataLoader(rows, batch_size=batch_size, collate_fn=collator):
        found["labels"].append(batch.pop("labels"))
        inputs = model.otmerge.read_inputs({name: value.to(model.device) for name, value in batch.items()})
        sides = {side: model.otmerge.embed_side(side, *given) for side, given in zip(SIDES, inputs, strict=True)}
        for name, part in path.measure(**sides).items():
            found[name].append(part.float().cpu())
    labels = torch.cat(found.pop("labels"))
    return {name: torch.cat(part) for name, part in found.items()}, labels


@torch.no_grad()
def _logits(model: nn.Module, rows: Any, collator: Collator, batch_size: int) -> Tensor:
    model.eval()
    batches = DataLoader(rows, batch_size=batch_size, collate_fn=collator)
    return torch.cat([model(**{n: v.to(model.device) for n, v in b.items()}).logits.float().cpu() for b in batches])


@torch.no_grad()
def _start(model: OTMergeForQuestionAnswering, fit: LinearFit) -> dict[str, Tensor]:
    """Put a fitted path in, and a fuser that says nothing yet; returns the state to come back to."""
    _path(model).load(fit.weights, fit.bias)
    _multiply(model, 0.0)
    return {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if "_encoder." not in name or value.requires_grad
    }


@torch.no_grad()
def _multiply(model: OTMergeForQuestionAnswering, scale: float) -> None:
    for parameter in model.classifier[-1].parameters():
        parameter.mul_(scale)


@torch.no_grad()
def _scale_fuser(
    model: OTMergeForQuestionAnswering, rows: Any, collator: Collator, batch_size: int, before: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Find the share of the fuser's logits that is best on validation, and fold it in; 0 where none is a gain."""
    last = copy.deepcopy(model.classifier[-1].state_dict())
    whole = _logits(model, rows, collator, batch_size)
    _multiply(model, 0.0)
    linear = _logits(model, rows, collator, batch_size)
    model.classifier[-1].load_state_dict(last)
    losses = {scale: answer_losses(linear + scale * (whole - linear), labels) for scale in _SCALES}
    scale, best = min(losses.items(), key=lambda item: float(item[1].mean()))
    kept = scale if is_gain(before, best) else 0.0
    _multiply(model, kept)
    return kept, float(best.mean())
