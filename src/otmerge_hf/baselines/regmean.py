"""Negative control: linear layers that best repeat both encoders' outputs, all else averaged."""

from .fitting import Fitted
from .merged_weights import fit_merged_weights
from .recipe import Recipe
from .task import Task
from .weights import regmean


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Merge by RegMean; refused where the architectures differ."""
    return fit_merged_weights(task, recipe, lambda models, batches: regmean(models, batches))
