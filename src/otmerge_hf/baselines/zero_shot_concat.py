"""Both encoders' mean features side by side: nothing is learned but the answers."""

from .fitting import Fitted, fuse
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Fixed random orthogonal adapters, concatenated means, and an answer head that learns.

    "Zero-shot" of the merge, which has no training of its own; the head needs labels like every other.
    """
    choices = {"adapter_type": "orthogonal", "fuser_type": "concat", "context_positions": "none"}
    return fuse(task, Fitted(model=task.build(recipe, **choices)), recipe, "fuse")
