"""A task's questions answered by the product's nearest statement, on the features that are there already."""

import torch

from otmerge_hf.features import embed
from otmerge_hf.model.modeling_otmerge import OTMergeModel
from otmerge_hf.training.pseudo_labels import nearest_statement

from ..tasks.task import NotApplicable, Rows, Task


def answer_by_statement(task: Task, model: OTMergeModel, rows: Rows) -> torch.Tensor:
    """Answers (N,) long of the task's questions `rows`, by [`nearest_statement`].

    Raises:
        NotApplicable: If the task has no statements for its questions.
    """
    if not task.candidates:
        raise NotApplicable("The task has no statements that its answers would make of its questions.")
    model.eval()
    context, query = embed(model, task.context_store, "context"), embed(model, task.query_store, "query")
    columns = rows.columns
    made = nearest_statement(context, query, columns["context_features"], columns["query_features"], task.candidates)
    return made.labels
