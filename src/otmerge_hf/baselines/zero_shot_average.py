"""The average of both encoders' mean features: nothing is learned but the answers."""

from .fitting import Fitted, fuse
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Fixed random orthogonal adapters, averaged means, and an answer head that learns."""
    choices = {"adapter_type": "orthogonal", "fuser_type": "average", "context_positions": "none"}
    return fuse(task, Fitted(model=task.build(recipe, **choices)), recipe, "fuse")
