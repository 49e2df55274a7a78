"""A matching stage: beside the cosine, the fuser first learns to tell true captions from hard false ones.

It learns from nothing but the pairs that aligned. The cosine counts for what it is worth there and is held, as are the
adapters; without it the fuser hardly learns to match.

Source: image-text matching with hard negatives: Li et al. 2021 (ALBEF), section 3.2.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from otmerge_hf.features import mean_features
from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering
from otmerge_hf.training import set_stage, train_answers
from otmerge_hf.training.linear_fit import fit_linear_path
from otmerge_hf.training.shared_contexts import by_context

from ..runner.flops import FlopCounter
from ..runner.recipe import Recipe
from ..tasks.task import Rows, Task
from .grown import PATH, aligned, grow, split
from .hard_pairs import cosines_of, directions_of, hold_contexts, true_and_false
from .stages import Accounting, Fitted, Phase


CHOICES: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 128, "questions_per_context": 8, "fuser_dropout": 0.1}
EPOCHS = 2.0  # over true and false pairs, as many of each as there are captions
GENTLER = 1 / 3  # of the recipe's rate, for a fuser that has learned to match


def matched(task: Task, recipe: Recipe) -> Fitted:
    """Align, let the fuser learn to match, and grow from there at a lower rate."""
    fitted = aligned(task, recipe, linear_path=list(PATH))
    assert fitted.model is not None
    matcher, said = learn_matching(task, recipe, fitted)
    for part in ("fuser", "positions", "classifier.0"):
        fitted.model.get_submodule(part).load_state_dict(matcher.get_submodule(part).state_dict())
    fitted = grow(task, recipe.replace(learning_rate=GENTLER * recipe.learning_rate), fitted)
    fitted.notes["matching"] = said
    return fitted


def matched_kept(task: Task, recipe: Recipe) -> Fitted:
    """As `matched_frozen`, with the matching logit on the path whatever validation says: what it is worth there."""
    return matched_frozen(task, recipe, kept=("matching",))


def matched_frozen(task: Task, recipe: Recipe, kept: Sequence[str] = ()) -> Fitted:
    """Align, let the fuser learn to match, hold it, and fit words, cosine, its logit and its vector by linear maps."""
    fitted = aligned(task, recipe, linear_path=[])
    matcher, said = learn_matching(task, recipe, fitted)
    start, start_cpu = time.perf_counter(), time.process_time()
    training, validation = (task.train, task.validation) if task.validation is not None else split(task.train, recipe)
    count = len(task.answers)
    with FlopCounter() as counter:
        parts, eval_parts, test_parts = (_parts(task, matcher, rows) for rows in (training, validation, task.test))
        chosen = fit_linear_path(parts, training.labels(), eval_parts, validation.labels(), count)
        chosen = replace(chosen, strengths=chosen.strengths | dict.fromkeys(kept, 1.0))  # as weak as for few numbers
        every = {name: torch.cat([part, eval_parts[name]]) for name, part in parts.items()}
        labels = torch.cat([training.labels(), validation.labels()])
        fit = fit_linear_path(every, labels, {}, labels[:0], count, again=chosen)
    logits = fit.bias + sum(test_parts[name] @ weight.T for name, weight in fit.weights.items())
    fitted.predictions = logits.argmax(dim=-1)
    fitted.model, fitted.labels = matcher, len(labels)
    seconds = time.perf_counter() - start, time.process_time() - start_cpu
    fitted.phases.append(Phase("fit", 1, len(labels), len(labels), *seconds, flops=counter.total))
    shares = {"fuser": 0.0, "path": 1.0}  # the fuser's logits are a part of the path
    fitted.notes = {
        "validation_losses": chosen.losses,
        "strengths": chosen.strengths,
        "shares": shares,
        "matching": said,
    }
    return fitted


def learn_matching(
    task: Task, recipe: Recipe, fitted: Fitted
) -> tuple[OTMergeForQuestionAnswering, dict[str, float | int]]:
    """Train a fuser and a head of two answers on the pairs, true and false; adapters as `fitted` aligned them.

    Returns:
        The model, and how often it and the cosine alone are right on pairs of contexts that it did not see, in [0, 1].
    """
    assert fitted.model is not None
    recipe = recipe.replace(**CHOICES)
    names = {0: "false", 1: "true"}
    model = task.build(
        recipe,
        adapter_type=fitted.model.config.adapter_type,
        linear_path=["cosine"],
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    model.otmerge.load_state_dict(fitted.model.otmerge.state_dict())
    directions = directions_of(task, model)
    training, held = (true_and_false(rows, directions, recipe.seed) for rows in hold_contexts(task.pairs, recipe.seed))
    cosines = [cosines_of(rows, directions) for rows in (training, held)]
    part, labels = {"cosine": cosines[0]}, training.labels()
    fit = fit_linear_path(part, labels, part, labels, 2)  # few numbers of many rows: they need no validation
    assert model.linear_path is not None
    model.linear_path.load(fit.weights, fit.bias)
    set_stage(model, "fuse")
    account = Accounting(task, recipe, "match", recipe.steps(len(training), EPOCHS))
    options: dict[str, Any] = {"stage": None, "questions_per_context": recipe.questions_per_context}
    train_answers(model, training, task.cached_collator(), account.arguments, callbacks=account.callbacks, **options)
    fitted.phases.append(account.phase(len(training)))
    alone = model.linear_path.combine({"cosine": cosines[1]})
    both = alone + _fused(task, model, held)[0]
    right = [float((logits.argmax(dim=-1) == held.labels()).float().mean()) for logits in (both, alone)]
    return model, {"held_rows": len(held), "accuracy": right[0], "accuracy_of_cosine": right[1]}


def _parts(task: Task, matcher: OTMergeForQuestionAnswering, rows: Rows) -> dict[str, Tensor]:
    """Words, cosine, the fuser's matching logit and its vector, (N, width) each."""
    means = mean_features(task.query_store)[rows.columns["query_features"]]
    standardize: Any = matcher.otmerge.query_standardizer
    logits, vectors = _fused(task, matcher, rows)
    return {
        "query": standardize(means),
        "cosine": cosines_of(rows, directions_of(task, matcher)),
        "matching": logits[:, 1:] - logits[:, :1],
        "fused": vectors,
    }


@torch.no_grad()
def _fused(task: Task, model: OTMergeForQuestionAnswering, rows: Rows) -> tuple[Tensor, Tensor]:
    """The head's logits without the linear path, (N, 2), and the fused vectors, (N, D)."""
    kept: list[Tensor] = []
    handle = model.classifier.register_forward_hook(
        lambda head, given, made: kept.append(torch.cat([made, *given], 1))
    )
    model.eval()
    ordered, collator, places = by_context(rows, task.cached_collator())
    for batch in DataLoader(ordered, batch_size=256, collate_fn=collator):
        model(**{name: value for name, value in batch.items() if name != "labels"})
    handle.remove()
    every = torch.cat(kept)[places]
    return every[:, :2], every[:, 2:]
