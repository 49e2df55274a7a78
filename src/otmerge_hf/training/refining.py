"""Parts of [`refine_alignment`]: its rows, checked; dropout on features; recall as Trainer's metric; a name."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..features.embedding import AFFINE_ADAPTERS
from ..features.keys import tensor_bytes
from ..metrics.neighbours import check_vectors
from ..metrics.retrieval import check_pairs, retrieval
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeModel


Pairs = tuple[Tensor, Tensor, Any]


def _check_rows(model: OTMergeModel, name: str, rows: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, Dc) and (M, Dq) in float32 and distinct pairs (P, 2) of one split."""
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


def join_rows(
    model: OTMergeModel, splits: Mapping[str, Pairs]
) -> tuple[dict[str, Tensor], dict[str, dict[str, list[int]]]]:
    """Check splits; features of all, by the name of the column that numbers them, and each split's columns.

    Raises:
        ValueError: If rows do not fit each other or the model, or a mean of tokens cannot stand for the tokens.
    """
    checked = {name: _check_rows(model, name, rows) for name, rows in splits.items()}
    columns, start = {}, torch.zeros(2, dtype=torch.long)
    for name, (context, query, pairs) in checked.items():
        contexts, queries = (pairs + start).T.tolist()
        # captions of one image are no negatives of each other; nor images of one caption, if captions are fewer
        groups = contexts if len(context) <= len(query) else queries
        columns[name] = {"context_features": contexts, "query_features": queries, "group_ids": groups}
        start = start + torch.tensor([len(context), len(query)])
    sides = enumerate(SIDES)
    return {f"{side}_features": torch.cat([rows[i] for rows in checked.values()]) for i, side in sides}, columns


class RowCollator:
    """Rows that number features (N, D_side) of both sides -> a batch of them, (B, 1, D_side), and groups (B,)."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        self.features = features

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, Tensor]:
        """Collate."""
        batch = {name: means[[row[name] for row in rows], None] for name, means in self.features.items()}
        return batch | {"group_ids": torch.tensor([row["group_ids"] for row in rows])}


class RecallCallback(TrainerCallback):
    """Adds the validation pairs' recall to what an evaluation measured, from which Trainer takes the best."""

    metric = "eval_recall"

    def __init__(self, model: OTMergeModel, rows: Pairs) -> None:
        self.model, self.rows = model, rows

    @torch.no_grad()
    def score(self) -> float:
        """Mean Recall@1 of both directions, in [0, 1]."""
        context, query = (features[:, None].to(self.model.device).float() for features in self.rows[:2])
        images = self.model.get_context_embeds(context_features=context)
        return retrieval(images, self.model.get_query_embeds(query_features=query), self.rows[2])["mean_recall@1"]

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure."""
        kwargs["metrics"][self.metric] = self.score()


@contextmanager
def feature_dropout(model: OTMergeModel, shares: tuple[float, float]) -> Iterator[None]:
    """Drop standardised features while the model trains: zero is then the mean of the training rows."""
    hooks = [
        model.get_submodule(f"{side}_standardizer").register_forward_hook(
            lambda module, _, output, share=share: nn.functional.dropout(output, share, module.training)
        )
        for side, share in zip(SIDES, shares, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def training_name(choices: tuple, *groups: Mapping[str, Tensor]) -> str:
    """Name of a training, so that only checkpoints of the same start, rows and choices are resumed."""
    digest = hashlib.sha256(repr(choices).encode())
    for tensors in groups:
        for tensor in tensors.values():
            digest.update(tensor_bytes(tensor))
    return f"refine-{digest.hexdigest()[:16]}"


def check_choices(steps: int, learning_rate: float, batch_size: int, dropout: tuple[float, float]) -> None:
    """Refuse what is out of range.

    Raises:
        ValueError: Naming the argument.
    """
    for name, value, least in (("steps", steps, 1), ("batch_size", batch_size, 2)):
        if value < least:
            raise ValueError(f"`{name}` is {value}; expected at least {least}.")
    if not learning_rate > 0:
        raise ValueError(f"`learning_rate` is {learning_rate}; expected a positive number.")
    if len(dropout) != 2 or not all(0 <= share < 1 for share in dropout):
        raise ValueError(f"`dropout` is {dropout}; expected two shares in [0, 1), of context and query.")
