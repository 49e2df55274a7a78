"""Linear maps into the shared space, learned from pairs, with no transport."""

from ..training import PairedLossCallback, VarianceLossCallback
from .fitting import Fitted, aligned
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """As `paired`, with one linear map a side in the place of the adapters that the recipe names."""
    terms = [PairedLossCallback(recipe.paired_weight), VarianceLossCallback(recipe.variance_weight)]
    return aligned(task, recipe, terms, paired=True, adapter_type="linear")
