"""Negative control: the plain average of both encoders' weights."""

from .fitting import Fitted
from .merged_weights import fit_merged_weights
from .recipe import Recipe
from .task import Task
from .weights import average


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Average the encoders' weights; refused where the architectures differ."""
    return fit_merged_weights(task, recipe, lambda models, batches: average([model.state_dict() for model in models]))
