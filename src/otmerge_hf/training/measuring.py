"""What a merge makes of labelled rows, without gradient: parts of its linear path, logits, the answers' texts."""

import logging
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..data.answers import Answers
from ..model.linear_path import LinearPath
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .shared_contexts import by_context
from .two_stages import Collator


logger = logging.getLogger(__name__)
_NAMES_AT_ONCE = 256
#: Rows times answers that are held at once, several times over: 0.4 GB each.
MOST_LOGITS = 10**8


def drawn_rows(rows: Any, num_labels: int, name: str = "rows") -> Any:
    """All rows, or as many drawn at random as have [`MOST_LOGITS`] logits: of large data a part is enough to fit on.

    Example:
        >>> len(drawn_rows(range(60_000), 10)), len(drawn_rows(range(60_000), 3_000))
        (60000, 33333)
    """
    most = max(MOST_LOGITS // num_labels, 1)
    if len(rows) <= most:
        return rows
    logger.warning("`%s`: the linear path is fitted on %d of the %d rows, drawn at random.", name, most, len(rows))
    picked = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most].sort().values.tolist()
    return rows.select(picked) if isinstance(rows, Dataset) else Subset(rows, picked)


def put_answer_texts(model: OTMergeForQuestionAnswering, processor: OTMergeProcessor) -> None:
    """Put the shared embeddings of the answers' names (`config.id2label`) into the linear path's part `answers`.

    Raises:
        ValueError: If the model has no such part.
    """
    if "answers" not in path_of(model).parts:
        raise ValueError(f"`linear_path` is {list(path_of(model).parts)}; expected `answers` among its parts.")
    names = Answers.of_config(model.config).names
    model.eval()
    for start in range(0, len(names), _NAMES_AT_ONCE):
        some = names[start : start + _NAMES_AT_ONCE]
        inputs = processor(text=some, return_tensors="pt", padding=True).to(model.device)
        with torch.no_grad():
            embeds = model.otmerge.get_query_embeds(**inputs)
            path_of(model).answer_embeds[start : start + len(some)].copy_(embeds)


def path_of(model: OTMergeForQuestionAnswering) -> LinearPath:
    """The model's linear path; a ValueError if it has none."""
    if model.linear_path is None:
        raise ValueError("`model` has no linear path; build it with `linear_path` in its configuration.")
    return model.linear_path


@torch.no_grad()
def measure_parts(
    model: OTMergeForQuestionAnswering, rows: Any, collator: Collator, batch_size: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Parts of the linear path, (N, W) each, and labels (N,) of the rows; on the CPU, without gradient.

    A context that many rows share is adapted once in a batch.
    """
    path = path_of(model)
    model.eval()
    found: dict[str, list[Tensor]] = {name: [] for name in (*path.parts, "labels")}
    rows, collator, places = by_context(rows, collator)
    for batch in DataLoader(rows, batch_size=batch_size, collate_fn=collator):
        found["labels"].append(batch.pop("labels"))
        inputs = model.otmerge.read_inputs({name: value.to(model.device) for name, value in batch.items()})
        (*context_inputs, shared), query_inputs = inputs
        distinct = model.otmerge.embed_side("context", *context_inputs)
        context = distinct
        if shared is not None:  # without the encoder's tokens, which are read of `distinct`, and are wide
            context = distinct._replace(tokens=distinct.tokens[:, :0]).take(shared)
        query = model.otmerge.embed_side("query", *query_inputs)
        for name, part in path.measure(query, context, distinct, shared).items():
            found[name].append(part.float().cpu())
    measured = {name: torch.cat(part)[places] for name, part in found.items()}
    labels = measured.pop("labels")
    return measured, labels


@torch.no_grad()
def answer_logits(model: nn.Module, rows: Any, collator: Collator, batch_size: int) -> Tensor:
    """Logits (N, L) of the rows, float32 on the CPU; a context that many rows share is looked at once in a batch."""
    model.eval()
    device = next(model.parameters()).device
    rows, collator, places = by_context(rows, collator)
    batches = DataLoader(rows, batch_size=batch_size, collate_fn=collator)
    logits = [model(**{n: v.to(device) for n, v in b.items()}).logits.float().cpu() for b in batches]
    return torch.cat(logits)[places]
