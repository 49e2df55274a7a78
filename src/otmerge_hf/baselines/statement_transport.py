"""Alignment alone with optimal transport: what unpaired images and statements add to pairs."""

from ..training import ContrastiveLossCallback, SinkhornLossCallback
from .fitting import Fitted
from .recipe import Recipe
from .statement_scoring import fit_and_score
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """As `statement_scoring`, with the Sinkhorn divergence of all rows, unpaired ones too, beside InfoNCE on pairs."""
    transport = SinkhornLossCallback(recipe.sinkhorn_weight, epsilon=recipe.epsilon)
    return fit_and_score(task, recipe, [ContrastiveLossCallback(1.0), transport])
