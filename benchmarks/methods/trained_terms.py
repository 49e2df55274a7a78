"""The merge itself: aligned by pairs and optimal transport, then fused."""

from .fitting import Fitted, aligned, transport_terms
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Paired distance, Sinkhorn divergence and the variance floor align the adapters; then answers are taught."""
    return aligned(task, recipe, transport_terms(recipe), paired=True)
