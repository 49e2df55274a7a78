"""Alignment by maximum mean discrepancy: like `sinkhorn`, with a kernel in the place of transport."""

from ..training import MMDLossCallback, VarianceLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Maximum mean discrepancy and the variance floor on unpaired rows."""
    return aligned(task, recipe, [MMDLossCallback(1.0), VarianceLossCallback(recipe.variance_weight)], paired=False)
