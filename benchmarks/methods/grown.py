"""Answers that grow: a linear path of words and geometry, then the fuser where validation gains; and the controls."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from otmerge_hf.alignment import CCA
from otmerge_hf.training import ContrastiveLossCallback, grow_answers, set_stage

from ..runner.flops import FlopCounter
from ..runner.recipe import Recipe
from ..tasks.task import Rows, Task
from .closed_forms import align_closed_form, shared_width
from .stages import Fitted, Phase, align, learn_answers, training_arguments


PATH = ("query", "cosine", "answers", "context")  # the default of OTMergeConfig
CCA_RIDGE = 0.3
VALIDATION_FRACTION = 0.2


def grown(task: Task, recipe: Recipe) -> Fitted:
    """Align, then grow."""
    return grow(task, recipe, aligned(task, recipe, linear_path=list(PATH)))


def grown_transport(task: Task, recipe: Recipe) -> Fitted:
    """As `grown`, with the transport plan as the fuser's attention."""
    return grow(task, recipe, aligned(task, recipe, linear_path=list(PATH), fuser_type="transport"))


def grown_everything(task: Task, recipe: Recipe) -> Fitted:
    """As `grown`, with late interaction and the plan's cost and similarity on the linear path too."""
    path = ["query", "cosine", "late_interaction", "transport", "answers", "context"]
    return grow(task, recipe, aligned(task, recipe, linear_path=path))


def grown_unaligned(task: Task, recipe: Recipe) -> Fitted:
    """The control of `grown`: the same head and growth, the same geometry, adapters that nothing aligned."""
    kind = recipe.adapter_type if task.candidates else "linear"
    return grow(task, recipe, Fitted(model=task.build(recipe, linear_path=list(PATH), adapter_type=kind)))


def grown_words(task: Task, recipe: Recipe) -> Fitted:
    """As `grown_unaligned`, with every question about one and the same context."""
    kind = recipe.adapter_type if task.candidates else "linear"
    model = task.build(recipe, linear_path=list(PATH), adapter_type=kind)
    return grow(task, recipe, Fitted(model=model, blank_sides=("context",)))


def words_linear(task: Task, recipe: Recipe) -> Fitted:
    """Logistic regression on the question's mean feature; its strength is chosen on validation."""
    model = task.build(recipe, linear_path=["query"], fuser_type="average", adapter_type="linear")
    return grow(task, recipe, Fitted(model=model, blank_sides=("context",)), steps=1)


def frozen_attention(task: Task, recipe: Recipe) -> Fitted:
    """Align, freeze the adapters, and let a cross-attention fuser and the head learn; no linear path."""
    return learn_answers(task, aligned(task, recipe, linear_path=[]), recipe, "fuse")


def frozen_transport(task: Task, recipe: Recipe) -> Fitted:
    """As `frozen_attention`, with the transport plan as attention: its temperature and the head learn."""
    return learn_answers(task, aligned(task, recipe, linear_path=[], fuser_type="transport"), recipe, "fuse")


def aligned(task: Task, recipe: Recipe, **choices: Any) -> Fitted:
    """Align by what the task has: InfoNCE on many statements of few kinds, a closed form on captions.

    Statements are offered in the form of a question too, where a question asks for just this statement ("there is a
    circle", "is there a circle?"): adapters that saw no question would not know that it lies by its statement.
    """
    if task.candidates:
        task = replace(task, pairs=with_questions(task, recipe.seed))
        return align(task, task.build(recipe, **choices), recipe, [ContrastiveLossCallback(1.0)], True)
    model = task.build(recipe, adapter_type="linear", **choices)
    return align_closed_form(task, recipe, model, CCA(CCA_RIDGE, shared_width(task, recipe)))


def with_questions(task: Task, seed: int) -> Rows:
    """The pairs, and each once more with a question whose answer "yes" is its statement, where there is one.

    Such a pair says what its statement says, in other words: it is no further label, and no further image.
    """
    yes = task.answers.index("yes")
    asking: dict[int, list[int]] = {}
    for question, statements in task.candidates.items():
        if yes in statements:
            asking.setdefault(statements[yes], []).append(question)
    draw = random.Random(seed)
    columns = task.pairs.columns
    couples = zip(columns["context_features"], columns["query_features"], strict=True)
    more = [(context, draw.choice(asking[statement])) for context, statement in couples if statement in asking]
    return Rows(
        [*columns["context_features"], *(context for context, _ in more)],
        [*columns["query_features"], *(question for _, question in more)],
    )


def grow(task: Task, recipe: Recipe, fitted: Fitted, steps: int | None = None) -> Fitted:
    """Split off validation by context where the task has none, and grow; counts what that takes."""
    assert fitted.model is not None
    training, validation = (task.train, task.validation) if task.validation is not None else split(task.train, recipe)
    rows = [training, validation]
    for side in fitted.blank_sides:
        rows = [part.with_columns(**{f"{side}_features": [0] * len(part)}) for part in rows]
    start, start_cpu = time.perf_counter(), time.process_time()
    planned = steps or recipe.steps(len(training), recipe.epochs)
    arguments = training_arguments(recipe, task.scratch / "grow", planned, per_device_eval_batch_size=256)
    with FlopCounter() as counter:
        growth = grow_answers(
            fitted.model,
            rows[0],
            task.cached_collator(),
            arguments,
            eval_questions=rows[1],
            processor=task.require_processor(),
            stage=recipe.fuse_stage,
            questions_per_context=recipe.questions_per_context,
        )
    fitted.phases.append(
        Phase(
            name="grow",
            steps=planned,
            batch_size=recipe.batch_size,
            rows=len(training) + len(validation),
            wall_seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - start_cpu,
            flops=counter.total,
        )
    )
    fitted.labels = len(training) + len(validation)
    fitted.notes = {
        "validation_losses": growth.linear.losses,
        "strengths": growth.linear.strengths,
        "linear_loss": growth.linear_loss,
        "mixed_loss": growth.mixed_loss,
        "shares": growth.shares._asdict(),
        "fuser_losses": growth.fuser_losses,
        "fuser_steps": growth.fuser_steps,
    }
    set_stage(fitted.model, recipe.fuse_stage)  # what counts as trainable
    if fitted.model.linear_path is not None:
        fitted.model.linear_path.requires_grad_(True)
    return fitted


def split(rows: Rows, recipe: Recipe) -> tuple[Rows, Rows]:
    """Rows for training and for validation; no context is in both."""
    contexts = sorted(set(rows.columns["context_features"]))
    random.Random(f"validation {recipe.seed}").shuffle(contexts)
    held = set(contexts[: max(1, round(VALIDATION_FRACTION * len(contexts)))])

    def part(inside: bool) -> Rows:
        kept = [i for i, context in enumerate(rows.columns["context_features"]) if (context in held) == inside]
        return Rows(*(_take(rows.columns[name], kept) for name in ("context_features", "query_features", "labels")))

    return part(False), part(True)


def _take(column: Sequence[int], places: Sequence[int]) -> list[int]:
    return [column[place] for place in places]
