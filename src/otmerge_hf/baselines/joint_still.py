"""The ceiling without noise: both encoders train, their dropout off and their batch statistics kept."""

from .fitting import Fitted
from .joint import fit_jointly
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """As `joint`, but the encoders stay in evaluation mode, as they are for every method that freezes them."""
    return fit_jointly(task, recipe, still=True)
