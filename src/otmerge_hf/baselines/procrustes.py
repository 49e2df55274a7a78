"""Orthogonal Procrustes on pairs, in closed form."""

from ..alignment import Procrustes
from .closed_form import fit_closed_form
from .fitting import Fitted
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Rotate both sides onto each other, then teach answers."""
    width = min(recipe.shared_dim, task.context_store.feature_dim, task.query_store.feature_dim)
    return fit_closed_form(task, recipe, Procrustes(shared_dim=width))
