"""Align by loss terms, then learn the answers: what most methods are."""

from collections.abc import Sequence
from typing import Any

from otmerge_hf.training import (
    ContrastiveLossCallback,
    LossTermCallback,
    MMDLossCallback,
    PairedLossCallback,
    PrototypeLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    set_stage,
)

from ..runner.recipe import Recipe
from ..tasks.task import Task
from .stages import Fitted, align, learn_answers


def linear(task: Task, recipe: Recipe) -> Fitted:
    """As `paired`, with one linear map a side in the place of the adapters that the recipe names."""
    return _aligned(task, recipe, _paired_terms(recipe), paired=True, adapter_type="linear")


def paired(task: Task, recipe: Recipe) -> Fitted:
    """As the merge, without its transport term."""
    return _aligned(task, recipe, _paired_terms(recipe), paired=True)


def sinkhorn(task: Task, recipe: Recipe) -> Fitted:
    """Sinkhorn divergence and the variance floor on unpaired rows: who belongs to whom is unknown."""
    terms = [
        SinkhornLossCallback(recipe.sinkhorn_weight, epsilon=recipe.epsilon),
        VarianceLossCallback(recipe.variance_weight),
    ]
    return _aligned(task, recipe, terms, paired=False)


def mmd(task: Task, recipe: Recipe) -> Fitted:
    """Like `sinkhorn`, with a kernel in the place of transport."""
    return _aligned(task, recipe, [MMDLossCallback(1.0), VarianceLossCallback(recipe.variance_weight)], paired=False)


def prototype(task: Task, recipe: Recipe) -> Fitted:
    """Transport between moving averages of clusters, and the variance floor, on unpaired rows."""
    terms = [
        PrototypeLossCallback(recipe.sinkhorn_weight, prototypes=max(1, min(16, recipe.batch_size // 8))),
        VarianceLossCallback(recipe.variance_weight),
    ]
    return _aligned(task, recipe, terms, paired=False)


def contrastive(task: Task, recipe: Recipe) -> Fitted:
    """Symmetric InfoNCE on pairs; images with one and the same statement are no negatives of each other."""
    return _aligned(task, recipe, [ContrastiveLossCallback(1.0)], paired=True)


def merged(task: Task, recipe: Recipe) -> Fitted:
    """Paired distance, Sinkhorn divergence and the variance floor align the adapters; then answers are learned."""
    return _aligned(task, recipe, _transport_terms(recipe), paired=True)


def frozen_fuser(task: Task, recipe: Recipe) -> Fitted:
    """Align as the merge does; then freeze adapters and a fixed random fuser, and let the head alone learn."""
    fitted = align(task, task.build(recipe), recipe, _transport_terms(recipe), paired=True)
    assert fitted.model is not None
    set_stage(fitted.model, "fuse")
    fitted.model.fuser.requires_grad_(False)
    fitted.model.positions.requires_grad_(False)
    return learn_answers(task, fitted, recipe)


def _aligned(task: Task, recipe: Recipe, terms: Sequence[LossTermCallback], paired: bool, **choices: Any) -> Fitted:
    fitted = align(task, task.build(recipe, **choices), recipe, terms, paired)
    return learn_answers(task, fitted, recipe, recipe.fuse_stage)


def _paired_terms(recipe: Recipe) -> list[LossTermCallback]:
    return [PairedLossCallback(recipe.paired_weight), VarianceLossCallback(recipe.variance_weight)]


def _transport_terms(recipe: Recipe) -> list[LossTermCallback]:
    """The merge's own terms: pairs, Sinkhorn divergence, and the floor under the spread."""
    return [
        PairedLossCallback(recipe.paired_weight),
        SinkhornLossCallback(recipe.sinkhorn_weight, epsilon=recipe.epsilon),
        VarianceLossCallback(recipe.variance_weight),
    ]
