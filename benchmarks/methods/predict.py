"""A model and rows -> answers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from otmerge_hf.training.shared_contexts import by_context

from ..tasks.task import Rows


@torch.inference_mode()
def predict(
    model: nn.Module, rows: Rows, collate: Callable[[list[Any]], dict[str, Any]], batch: int = 256
) -> torch.Tensor:
    """Most likely answer to each row; a context that many rows share is looked at once in a batch.

    Args:
        model: With `logits` in its output; put into evaluation mode.
        rows: What is asked; labels, if there are any, are not looked at.
        collate: Rows to the model's inputs.
        batch: Rows at a time.

    Returns:
        Answers, (N,) long.
    """
    model.eval()
    found = []
    ordered, collate, places = by_context(rows, collate)
    for first in range(0, len(rows), batch):
        inputs = collate([ordered[row] for row in range(first, min(first + batch, len(rows)))])
        inputs.pop("labels", None)
        found.append(model(**inputs).logits.argmax(dim=-1))
    return torch.cat(found)[places]
