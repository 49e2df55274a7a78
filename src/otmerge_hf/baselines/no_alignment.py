"""The control: the same fuser on the same frozen encoders, without the alignment stage."""

from .fitting import Fitted, fuse
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Teach answers to adapters, fuser and head as they were initialised: same seed, same weights, same rows."""
    return fuse(task, Fitted(model=task.build(recipe)), recipe, "both")
