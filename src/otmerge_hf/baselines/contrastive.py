"""Alignment by InfoNCE: each pair against the batch's other combinations."""

from ..training import ContrastiveLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Symmetric InfoNCE on pairs.

    Rows carry no group numbers: equal statements of different images count as negatives, as they do in CLIP.
    """
    return aligned(task, recipe, [ContrastiveLossCallback(1.0)], paired=True)
