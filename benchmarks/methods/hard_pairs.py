"""True pairs, and as many hard false ones: each caption beside a context that alignment takes it to be near to."""

import random

import torch
from torch import Tensor, nn

from otmerge_hf.features import embed
from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering

from ..tasks.task import Rows, Task


DRAWN = 32  # contexts for each caption, of which the nearest makes its false pair
HELD = 1 / 15  # of the contexts: how often matching is right is measured on their pairs


def hold_contexts(pairs: Rows, seed: int) -> tuple[Rows, Rows]:
    """The pairs to learn from, and those of contexts that are held out."""
    columns = pairs.columns
    contexts = sorted(set(columns["context_features"]))
    random.Random(f"matching {seed}").shuffle(contexts)
    held = set(contexts[: max(1, round(HELD * len(contexts)))])
    couples = list(zip(columns["context_features"], columns["query_features"], strict=True))
    parts = ([couple for couple in couples if (couple[0] in held) == inside] for inside in (False, True))
    training, measured = (Rows(*zip(*part, strict=True)) for part in parts)
    return training, measured


def true_and_false(pairs: Rows, directions: dict[str, Tensor], seed: int) -> Rows:
    """Pairs (label 1), and each caption once more with the nearest by cosine of some drawn contexts (label 0).

    So words alone do not tell them apart. No false pair is one of the pairs.
    """
    context, query = (torch.tensor(pairs.columns[f"{side}_features"]) for side in ("context", "query"))
    generator = torch.Generator().manual_seed(seed)
    drawn = context[torch.randint(len(context), (len(context), DRAWN), generator=generator)]  # (N, drawn)
    cosines = torch.cat(
        [
            torch.einsum("nd,nkd->nk", directions["query"][some], directions["context"][others])
            for some, others in zip(query.split(4096), drawn.split(4096), strict=True)
        ]
    )
    width = 1 + int(query.max())
    is_pair = torch.isin(drawn * width + query[:, None], context * width + query)  # a couple as one number
    nearest = cosines.masked_fill(is_pair, -2.0).max(dim=1)
    false = drawn.gather(1, nearest.indices[:, None])[:, 0]
    there = nearest.values > -2  # of few kinds of captions, all may be true
    return Rows(
        torch.cat([context, false[there]]).tolist(),
        torch.cat([query, query[there]]).tolist(),
        [1] * len(query) + [0] * int(there.sum()),
    )


def directions_of(task: Task, model: OTMergeForQuestionAnswering) -> dict[str, Tensor]:
    """Shared embeddings of all inputs, of length 1."""
    stores = {"context": task.context_store, "query": task.query_store}
    return {side: nn.functional.normalize(embed(model, store, side), dim=-1) for side, store in stores.items()}


def cosines_of(rows: Rows, directions: dict[str, Tensor]) -> Tensor:
    """Cosine of each row's context and query, (N, 1)."""
    sides = (directions[side][rows.columns[f"{side}_features"]] for side in ("context", "query"))
    return torch.linalg.vecdot(*sides)[:, None]
