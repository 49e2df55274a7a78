"""The same fuser without the question: what the images alone give away."""

from .fitting import Fitted, fuse
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Every image is asked one and the same question, in training and in testing."""
    return fuse(task, Fitted(model=task.build(recipe), blank=("query",)), recipe, "both")
