"""Regularised canonical correlation analysis on pairs, in closed form."""

from ..alignment import CCA
from .closed_form import fit_closed_form
from .fitting import Fitted
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Whiten and rotate both sides, then teach answers."""
    width = min(recipe.shared_dim, task.context_store.feature_dim, task.query_store.feature_dim)
    return fit_closed_form(task, recipe, CCA(shared_dim=width))
