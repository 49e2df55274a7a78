"""Mean features and pairs, checked against a merge -> columns of rows that a Trainer reads."""

from typing import Any

import torch
from torch import Tensor

from ..features.embedding import AFFINE_ADAPTERS
from ..metrics.neighbours import check_vectors
from ..metrics.retrieval import check_pairs
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeModel


Pairs = tuple[Tensor, Tensor, Any]


def check_rows(model: OTMergeModel, name: str, rows: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, Dc) and (M, Dq) in float32 and distinct pairs (P, 2) of one split.

    Raises:
        ValueError: If they do not fit each other or the model, or a mean of tokens cannot stand for the tokens.
    """
    if model.config.adapter_type not in AFFINE_ADAPTERS:
        raise ValueError(
            f"`model` has {model.config.adapter_type} adapters; expected {', '.join(AFFINE_ADAPTERS)}: other maps do "
            "not commute with a mean."
        )
    context, query = (
        check_vectors(f"{name} {side}", features, dim=model.config.feature_dim(side)).float()
        for side, features in zip(SIDES, rows[:2], strict=True)
    )
    try:
        return context, query, check_pairs(rows[2], len(context), len(query))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error


def join_rows(splits: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[dict[str, Tensor], list[dict[str, list[int]]]]:
    """Features of all splits, by the name of the column that numbers them, and each split's columns of pairs."""
    columns, start = [], torch.zeros(2, dtype=torch.long)
    for context, query, pairs in splits:
        rows = pairs + start
        # captions of one image are no negatives of each other; nor images of one caption, if captions are fewer
        group = rows[:, 0 if len(context) <= len(query) else 1]
        contexts, queries = rows.T.tolist()
        columns.append({"context_features": contexts, "query_features": queries, "group_ids": group.tolist()})
        start = start + torch.tensor([len(context), len(query)])
    return {f"{side}_features": torch.cat([split[i] for split in splits]) for i, side in enumerate(SIDES)}, columns
