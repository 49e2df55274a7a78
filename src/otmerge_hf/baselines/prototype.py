"""Alignment of prototypes: transport between moving averages of clusters, who belongs to whom unknown."""

from ..training import PrototypeLossCallback, VarianceLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Transport between prototypes and the variance floor on unpaired rows."""
    terms = [
        PrototypeLossCallback(recipe.sinkhorn_weight, prototypes=max(1, min(16, recipe.batch_size // 8))),
        VarianceLossCallback(recipe.variance_weight),
    ]
    return aligned(task, recipe, terms, paired=False)
