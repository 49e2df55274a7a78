"""Alignment alone, without a single label: the answer whose statement lies nearest to the image."""

import torch
from transformers import TrainerCallback

from ..model.fusers import masked_mean
from ..model.modeling_otmerge import OTMergeModel
from ..training import ContrastiveLossCallback
from .fitting import Fitted, align
from .recipe import Recipe
from .task import Refused, Rows, Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """InfoNCE on pairs aligns both sides; question and answer become a statement, and cosine decides.

    Half of the yes-or-no answers are negative statements, so align with `negative_statements=True`.

    Source: Song et al. 2022 ("CLIP Models are Few-shot Learners", ACL), which turns questions into statements so.
    """
    return fit_and_score(task, recipe, [ContrastiveLossCallback(1.0)])


def fit_and_score(task: Task, recipe: Recipe, terms: list[TrainerCallback]) -> Fitted:
    """Align by some terms and answer the test questions by the nearest statement."""
    fitted = align(task, task.build(recipe), recipe, terms, paired=True)
    assert fitted.model is not None
    fitted.predictions = nearest_statement(task, fitted.model.otmerge, task.test)
    return fitted


@torch.no_grad()
def nearest_statement(task: Task, model: OTMergeModel, rows: Rows) -> torch.Tensor:
    """Answer questions by the cosine of the image's and the candidate statements' shared embeddings.

    Shapes: N questions.

    Args:
        task: Its `candidates` and features.
        model: The aligned encoders.
        rows: The questions, each with its context.

    Returns:
        Answers, (N,) long.

    Raises:
        Refused: If the task has no statements for its questions.
    """
    if not task.candidates:
        raise Refused("The task has no statements that its answers would make of its questions.")
    model.eval()
    embeds = {}
    for side, store in (("context", task.context_store), ("query", task.query_store)):
        parts = []
        for start in range(0, len(store), 512):
            features, mask = store.batch(range(start, min(start + 512, len(store))))
            tokens, mask = model.encode(side, {}, mask, features)
            parts.append(masked_mean(getattr(model, f"{side}_adapter")(tokens), mask))
        embeds[side] = torch.nn.functional.normalize(torch.cat(parts), dim=-1)
    similarity = embeds["context"] @ embeds["query"].T  # (contexts, texts)
    columns = rows.columns
    answers = []
    for image, question in zip(columns["context_features"], columns["query_features"], strict=True):
        made = task.candidates[question]
        answers.append(max(made, key=lambda answer: similarity[image, made[answer]].item()))
    return torch.tensor(answers)
