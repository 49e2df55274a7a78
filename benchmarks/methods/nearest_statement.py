"""Aligned encoders and candidate statements -> answers: the one whose statement lies nearest to the image."""

import torch

from otmerge_hf.model.fusers import masked_mean
from otmerge_hf.model.modeling_otmerge import OTMergeModel

from ..tasks.task import NotApplicable, Rows, Task


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
        NotApplicable: If the task has no statements for its questions.
    """
    if not task.candidates:
        raise NotApplicable("The task has no statements that its answers would make of its questions.")
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
