"""Alignment by transport alone: the clouds of contexts and statements, who belongs to whom unknown."""

from ..training import SinkhornLossCallback, VarianceLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Sinkhorn divergence and the variance floor on unpaired rows."""
    terms = [
        SinkhornLossCallback(recipe.sinkhorn_weight, epsilon=recipe.epsilon),
        VarianceLossCallback(recipe.variance_weight),
    ]
    return aligned(task, recipe, terms, paired=False)
