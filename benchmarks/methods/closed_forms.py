"""Fits without gradient steps, put into linear adapters: `procrustes` and `cca`."""

import time
from types import SimpleNamespace

from otmerge_hf.alignment import CCA, Alignment, Procrustes
from otmerge_hf.features import mean_features
from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering

from ..runner.recipe import Recipe
from ..tasks.task import Task
from .stages import Fitted, Phase, learn_answers


def procrustes(task: Task, recipe: Recipe) -> Fitted:
    """Rotate both sides onto each other, then learn the answers."""
    return fit_closed_form(task, recipe, Procrustes(shared_dim=shared_width(task, recipe)))


def cca(task: Task, recipe: Recipe) -> Fitted:
    """Whiten and rotate both sides, then learn the answers."""
    return fit_closed_form(task, recipe, CCA(shared_dim=shared_width(task, recipe)))


def shared_width(task: Task, recipe: Recipe) -> int:
    """The recipe's width, as far as both encoders are as wide."""
    return min(recipe.shared_dim, task.context_store.feature_dim, task.query_store.feature_dim)


def fit_closed_form(task: Task, recipe: Recipe, fit: Alignment) -> Fitted:
    """Align in closed form, then learn the answers."""
    fitted = align_closed_form(task, recipe, task.build(recipe, adapter_type="linear"), fit)
    return learn_answers(task, fitted, recipe, recipe.fuse_stage)


def align_closed_form(task: Task, recipe: Recipe, model: OTMergeForQuestionAnswering, fit: Alignment) -> Fitted:
    """Fit on the mean features of pairs and load the maps into the model's linear adapters.

    The shared space is as wide as the recipe says, so that the fuser is everyone's. A fit is at most as wide as the
    narrower encoder: the dimensions beyond start at zero on both sides, which leaves every distance and cosine as the
    fit made it, and learn with the rest.
    """
    start, start_cpu = time.perf_counter(), time.process_time()
    means = {}
    for side, store in (("context", task.context_store), ("query", task.query_store)):
        # the means are kept beside the store once made; an affine map commutes with them
        means[side] = getattr(model.otmerge, f"{side}_standardizer")(mean_features(store))
    pairs = [task.pairs.columns[f"{side}_features"] for side in means]
    fit.fit(means["context"], means["query"], list(zip(*pairs, strict=True)))
    maps = {f"{side}_map_": getattr(fit, f"{side}_map_").widened(recipe.shared_dim) for side in means}
    model.otmerge.load_alignment(SimpleNamespace(**maps), standardized=True)
    phase = Phase(
        name="align",
        steps=1,
        batch_size=len(task.pairs),
        rows=len(task.pairs),
        wall_seconds=time.perf_counter() - start,
        cpu_seconds=time.process_time() - start_cpu,
        flops=_moments_flops([len(set(column)) for column in pairs], [side.shape[1] for side in means.values()]),
    )
    return Fitted(model=model, phases=[phase], pairs=len(task.pairs))


def _moments_flops(rows: list[int], widths: list[int]) -> int:
    """Operations of the moments of so many distinct rows a side; decompositions aside."""
    within = sum(count * width**2 for count, width in zip(rows, widths, strict=True))
    return 2 * (within + min(rows) * widths[0] * widths[1])
