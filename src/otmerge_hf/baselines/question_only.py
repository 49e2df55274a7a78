"""The same fuser without a look at the image: what the questions alone give away."""

from .fitting import Fitted, fuse
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Every question is asked about one and the same context, in training and in testing."""
    return fuse(task, Fitted(model=task.build(recipe), blank=("context",)), recipe, "both")
