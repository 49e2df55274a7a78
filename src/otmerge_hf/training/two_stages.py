"""The two stages of a merge under the stock Trainer: bring both sides into one space, then learn answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn
from transformers import EvalPrediction, PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from ..features.embedding import AFFINE_ADAPTERS
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergePreTrainedModel
from .attachment import base_model, find_host
from .callbacks import LossTermCallback, prioritize
from .mixed import MixedCollator
from .shared_contexts import check_sharing, share_contexts
from .stages import set_stage


Collator = Callable[[list[Any]], dict[str, Any]]


def answer_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of the questions whose most likely answer is the label, `accuracy` in [0, 1]; for `compute_metrics`.

    Rows labelled -100 do not count. With soft labels (N, answers) it is the mean score of the chosen answers.

    Example:
        >>> logits = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
        >>> answer_accuracy(EvalPrediction(logits, np.array([0, 0, -100])))
        {'accuracy': 0.5}
    """
    answers, labels = np.asarray(prediction.predictions).argmax(-1), np.asarray(prediction.label_ids)
    if labels.ndim == 2:
        return {"accuracy": float(np.take_along_axis(labels, answers[:, None], axis=1).mean())}
    labelled = labels != -100
    return {"accuracy": float((answers == labels)[labelled].mean()) if labelled.any() else 0.0}


def train_alignment(
    model: nn.Module,
    pairs: Any,
    collator: Collator,
    args: TrainingArguments,
    terms: Sequence[LossTermCallback],
    *,
    eval_pairs: Any = None,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from_checkpoint: str | bool | None = None,
) -> Trainer:
    """Stage one: the adapters learn from the loss terms alone.

    Args:
        model: A merge with or without a fuser; its adapters and decoders learn, and the temperature if a term uses it.
        pairs: Rows of contexts and queries, as `collator` takes them; no labels.
        collator: Rows -> the model's inputs, such as [`features.FeatureCollator`].
        args, callbacks, resume_from_checkpoint: As the stock Trainer takes them; `callbacks` beside the terms.
        terms: The loss terms, at least one.
        eval_pairs: Rows to evaluate the terms on, when `args` asks for evaluations or by `evaluate()` afterwards.

    Returns:
        The Trainer, after its training. `trainer.evaluate()` gives `eval_loss` and each term (`eval_paired`, ...).

    Raises:
        ValueError: If there are no pairs or no terms, a term is no [`LossTermCallback`], or `model` holds no merge.

    Example: as of [`train_answers`], with `terms=[PairedLossCallback(0.1), VarianceLossCallback(1.0)]` and no labels.
    """
    if not terms:
        raise ValueError("`terms` is empty; expected at least one loss term: alignment has no other loss.")
    _check_terms(terms)
    _check_pooling(collator, find_host(model), answers=False)
    _check_rows(pairs, "pairs")
    set_stage(model, "align", terms)
    trainer = Trainer(base_model(find_host(model)), args, collator, pairs, eval_pairs, callbacks=[*terms, *callbacks])
    return _train(trainer, resume_from_checkpoint)


def train_answers(
    model: nn.Module,
    questions: Any,
    collator: Collator,
    args: TrainingArguments,
    *,
    stage: str | None = "both",
    eval_questions: Any = None,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = answer_accuracy,
    terms: Sequence[LossTermCallback] = (),
    callbacks: Sequence[TrainerCallback] = (),
    optimizers: tuple[Any, Any] = (None, None),
    resume_from_checkpoint: str | bool | None = None,
    questions_per_context: int = 1,
) -> Trainer:
    """Stage two: fuser and answer head learn from labelled questions. Returns the Trainer, after its training.

    Args:
        model: An [`OTMergeForQuestionAnswering`], possibly wrapped.
        questions: Rows of contexts, queries and `labels`, as `collator` takes them.
        collator: As in [`train_alignment`].
        stage: `"both"` (adapters learn too), `"fuse"`, or None for what is set to learn already.
        eval_questions: Rows to evaluate on, during the training (if `args` says so) or by `evaluate()` after it.
        terms: Loss terms beside the answers' loss.
        args, compute_metrics, callbacks, optimizers, resume_from_checkpoint: As the stock Trainer takes them.
        questions_per_context: How many questions about one context a batch holds at most. Above 1 those that there
            are come together, and their context is encoded and adapted once: faster, with less varied batches. A
            step has about as many questions, and Trainer counts contexts.

    Raises:
        ValueError: If there are no questions, the collator makes no `labels` of them, a term is no
            [`LossTermCallback`], `model` holds no answer head, or `questions_per_context` cannot be.

    Example:
        >>> import tempfile, torch
        >>> from transformers import BertConfig, ViTConfig, default_data_collator
        >>> from otmerge_hf import OTMergeConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(**small), BertConfig(**small), shared_dim=8)
        >>> tokens = dict(context_features=torch.randn(4, 16), query_features=torch.randn(3, 16))
        >>> questions = [{**tokens, "labels": i % 2} for i in range(8)]
        >>> quiet = dict(logging_strategy="no", save_strategy="no", disable_tqdm=True)
        >>> args = TrainingArguments(tempfile.mkdtemp(), max_steps=2, use_cpu=True, **quiet)
        >>> model = OTMergeForQuestionAnswering(config)
        >>> trainer = train_answers(model, questions, default_data_collator, args, eval_questions=questions)
        >>> 0 <= trainer.evaluate()["eval_accuracy"] <= 1
        True
    """
    _check_terms(terms)
    host = find_host(model)
    if not isinstance(host, OTMergeForQuestionAnswering):
        raise ValueError(f"`model` is a {type(host).__name__}; expected an OTMergeForQuestionAnswering.")
    _check_pooling(collator, host, answers=True)
    check_questions(questions, collator, "questions")
    check_sharing(questions, collator, args, questions_per_context)
    if questions_per_context > 1:
        questions, collator, args = share_contexts(questions, collator, args, questions_per_context, terms)
    if stage is not None:
        set_stage(model, stage, terms)
    further: dict[str, Any] = {"compute_metrics": compute_metrics, "optimizers": optimizers}
    trainer = Trainer(model, args, collator, questions, eval_questions, callbacks=[*terms, *callbacks], **further)
    return _train(trainer, resume_from_checkpoint)


def _check_terms(terms: Sequence[Any]) -> None:
    for term in terms:
        if not isinstance(term, LossTermCallback):
            raise ValueError(f"`terms` holds a {type(term).__name__}; expected callbacks such as PairedLossCallback.")


def _check_pooling(collator: Collator, host: OTMergePreTrainedModel, answers: bool) -> None:
    """Refuse mean features where the result would not be that of the tokens."""
    inner = collator.collate if isinstance(collator, MixedCollator) else collator
    if getattr(inner, "pooling", None) != "mean":
        return
    given, config = '`collator` has `pooling="mean"`', host.config
    if config.adapter_type not in AFFINE_ADAPTERS:
        expected = f"{', '.join(AFFINE_ADAPTERS)}: other maps do not commute with a mean."
        raise ValueError(f"{given}, and the adapters are `{config.adapter_type}`; expected {expected}")
    by_token = {"late_interaction", "transport"} & {*config.linear_path}
    if config.reconstruction or (answers and (by_token or config.fuser_type not in ("concat", "average"))):
        raise ValueError(f"{given}, but a fuser with attention, decoders and plans look at single tokens.")


def check_questions(rows: Any, collator: Collator, name: str) -> None:
    """Refuse rows that are none, or of which the collator makes no labels."""
    first = _check_rows(rows, name)
    if first is not None and "labels" not in (made := collator([first])):
        raise ValueError(f"`collator` makes {sorted(made)} of the first of `{name}`; expected `labels` among them.")


def _check_rows(rows: Any, name: str) -> Any:
    """First row; None where the rows come as a stream."""
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        return None
    if isinstance(rows, Mapping):
        raise ValueError(f"`{name}` is a {type(rows).__name__}; expected rows, such as a Dataset.")
    if len(rows) == 0:
        raise ValueError(f"`{name}` is empty; expected at least one row.")
    return rows[0]


class _Bar(ProgressCallback):
    """Trainer's bar of steps, without its bars of evaluations and without printing the log."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing."""

    on_prediction_step = on_log


def _train(trainer: Trainer, resume_from_checkpoint: str | bool | None) -> Trainer:
    if trainer.args.logging_strategy == "no":
        # they would print the closing summary and every evaluation all the same
        trainer.remove_callback(PrinterCallback)
        if trainer.pop_callback(ProgressCallback):
            trainer.add_callback(_Bar)
    prioritize(trainer).train(resume_from_checkpoint=resume_from_checkpoint)
    return trainer
