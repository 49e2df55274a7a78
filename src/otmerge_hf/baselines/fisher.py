"""Negative control: the average of both encoders' weights, weighted by Fisher information."""

from .fitting import Fitted
from .merged_weights import embedding, fit_merged_weights
from .recipe import Recipe
from .task import Task
from .weights import average, fisher


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Weight each entry by how much the encoder's output depends on it; refused where the architectures differ."""

    def merge(models: list, batches: list) -> dict:
        importance = [fisher(model, given, embedding) for model, given in zip(models, batches, strict=True)]
        return average([model.state_dict() for model in models], importance)

    return fit_merged_weights(task, recipe, merge)
