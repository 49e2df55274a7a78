"""Alignment by pairs alone: squared distance, with a floor under the spread against collapse."""

from ..training import PairedLossCallback, VarianceLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """As the merge, without its transport term."""
    terms = [PairedLossCallback(recipe.paired_weight), VarianceLossCallback(recipe.variance_weight)]
    return aligned(task, recipe, terms, paired=True)
