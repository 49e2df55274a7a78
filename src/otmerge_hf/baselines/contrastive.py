"""Alignment by InfoNCE: each pair against the batch's other combinations."""

from ..training import ContrastiveLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Symmetric InfoNCE on pairs; images with one and the same statement are no negatives of each other."""
    return aligned(task, recipe, [ContrastiveLossCallback(1.0)], paired=True)
