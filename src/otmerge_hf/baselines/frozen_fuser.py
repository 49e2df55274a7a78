"""Aligned by transport, with a fixed random cross-attention: only the answer head learns from labels."""

from ..training import set_stage
from .fitting import Fitted, align, fuse, transport_terms
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Align as the merge does; then freeze adapters and fuser, and teach the head alone."""
    fitted = align(task, task.build(recipe), recipe, transport_terms(recipe), paired=True)
    assert fitted.model is not None
    set_stage(fitted.model, "fuse")
    fitted.model.fuser.requires_grad_(False)
    fitted.model.positions.requires_grad_(False)
    return fuse(task, fitted, recipe)
