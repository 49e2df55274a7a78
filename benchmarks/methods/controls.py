"""Controls: what can be had without an image, without a question, without alignment, or without a model."""

from collections import Counter, defaultdict

import torch

from ..runner.recipe import Recipe
from ..tasks.task import Task
from .stages import Fitted, learn_answers


def most_frequent(task: Task, recipe: Recipe) -> Fitted:
    """Count; a wording that was never labelled gets the most frequent answer of all."""
    counts: dict[int, Counter] = defaultdict(Counter)
    labels = task.train.columns["labels"]
    for question, answer in zip(task.train.columns["query_features"], labels, strict=True):
        counts[question][answer] += 1
    overall = Counter(labels).most_common(1)[0][0]
    best = {question: answers.most_common(1)[0][0] for question, answers in counts.items()}
    answers = [best.get(question, overall) for question in task.test.columns["query_features"]]
    return Fitted(predictions=torch.tensor(answers), labels=len(labels))


def question_only(task: Task, recipe: Recipe) -> Fitted:
    """Every question is asked about one and the same context, in training and in testing."""
    return learn_answers(task, Fitted(model=task.build(recipe), blank_sides=("context",)), recipe, "both")


def context_only(task: Task, recipe: Recipe) -> Fitted:
    """Every image is asked one and the same question, in training and in testing."""
    return learn_answers(task, Fitted(model=task.build(recipe), blank_sides=("query",)), recipe, "both")


def zero_shot_concat(task: Task, recipe: Recipe) -> Fitted:
    """Fixed random orthogonal adapters, concatenated means, and an answer head that learns.

    "Zero-shot" of the merge, which has no training of its own; the head needs labels like every other.
    """
    choices = {"adapter_type": "orthogonal", "fuser_type": "concat", "context_positions": "none"}
    return learn_answers(task, Fitted(model=task.build(recipe, **choices)), recipe, "fuse")


def zero_shot_average(task: Task, recipe: Recipe) -> Fitted:
    """Fixed random orthogonal adapters, averaged means, and an answer head that learns."""
    choices = {"adapter_type": "orthogonal", "fuser_type": "average", "context_positions": "none"}
    return learn_answers(task, Fitted(model=task.build(recipe, **choices)), recipe, "fuse")


def no_alignment(task: Task, recipe: Recipe) -> Fitted:
    """The control of every aligned method: same seed, same initial weights, same rows, no alignment stage."""
    return learn_answers(task, Fitted(model=task.build(recipe)), recipe, "both")
