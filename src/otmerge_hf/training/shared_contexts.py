"""Questions about one context side by side in a batch, so that its encoder and adapter run once for them."""

import copy
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

import datasets
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset
from transformers import TrainingArguments

from ..features.collator import hashable
from ..losses import ContrastiveTerm
from ..model.modality import FORWARD_INPUTS


class QuestionGroups(Dataset):
    """Rows of questions as lists of at most `most` that share a context; one row of the data set is one list.

    Which questions of a context come together is drawn by `seed`. Lists are of about equal length: five questions,
    at most four together, are three and two.

    Args:
        rows: Rows with `context_features`.
        most: Questions in a list at most.
        seed: Of the draw.

    Example:
        >>> rows = [{"context_features": i // 5, "query_features": i} for i in range(8)]
        >>> groups = QuestionGroups(rows, most=4, seed=0)
        >>> len(groups), sorted(len(groups[i]) for i in range(3))
        (3, [2, 3, 3])
    """

    def __init__(self, rows: Any, most: int, seed: int) -> None:
        self.rows = rows
        places: dict[Any, list[int]] = {}
        for row, context in enumerate(contexts_of(rows)):
            places.setdefault(hashable(context), []).append(row)
        draw, self.groups = random.Random(seed), []
        for together in places.values():
            draw.shuffle(together)
            lists = -(-len(together) // most)
            self.groups += [together[first::lists] for first in range(lists)]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, group: int) -> list[Any]:
        return [self.rows[row] for row in self.groups[group]]


def contexts_of(rows: Any) -> list[Any]:
    """`context_features` of all rows; of a `datasets.Dataset` that column alone is read, where it is a column."""
    if isinstance(rows, ConcatDataset):
        return [context for part in rows.datasets for context in contexts_of(part)]
    if isinstance(rows, Subset):
        contexts = contexts_of(rows.dataset)
        return [contexts[place] for place in rows.indices]
    if isinstance(rows, datasets.Dataset) and rows.format["type"] != "custom":  # what `set_transform` makes is none
        return list(rows["context_features"])
    return [rows[row]["context_features"] for row in range(len(rows))]


def by_context(
    rows: Any, collator: Callable[[list[Any]], dict[str, Any]]
) -> tuple[Any, Callable[[list[Any]], dict[str, Any]], torch.Tensor]:
    """Rows with those of a context side by side, a collator that shares it, and where each row (N,) lies now.

    For passes without gradient, in which the order of rows is nobody's business. A collator that knows no shared
    contexts, or rows that hold the contexts themselves, are handed back as they are.
    """
    places = list(range(len(rows)))
    named = "context_features" in getattr(collator, "stores", ["context_features"])
    if hasattr(collator, "share_contexts") and named:
        first: dict[Any, int] = {}
        found = [first.setdefault(hashable(context), row) for row, context in enumerate(contexts_of(rows))]
        places.sort(key=found.__getitem__)
        rows = rows.select(places) if isinstance(rows, datasets.Dataset) else Subset(rows, places)
        collator = copy.copy(collator)
        collator.share_contexts = True  # type: ignore[attr-defined]
    return rows, collator, torch.tensor(places, dtype=torch.long).argsort()


def flat(
    collator: Callable[[list[Any]], dict[str, Any]], columns: Collection[str] | None = None
) -> Callable[[list[Any]], dict[str, Any]]:
    """The same collator, for rows and for lists of rows; of these the `columns` alone, as Trainer keeps of rows."""

    def collate(items: list[Any]) -> dict[str, Any]:
        rows = []
        for item in items:
            if not isinstance(item, list):
                rows.append(item)
            elif columns is None:
                rows += item
            else:
                rows += [{name: value for name, value in row.items() if name in columns} for row in item]
        return collator(rows)

    return collate


def check_sharing(rows: Any, collator: Any, args: TrainingArguments, most: int) -> None:
    """Refuse a `questions_per_context` that is none, or that cannot be.

    Raises:
        ValueError: If it is no whole number above 0; or, above 1, the collator does not know shared contexts, there is
            no length, or one process feeds several others, which would cut a batch apart.
    """
    if not isinstance(most, int) or most < 1:
        raise ValueError(f"`questions_per_context` is {most!r}; expected a whole number above 0.")
    if most == 1:
        return
    if not hasattr(collator, "share_contexts"):
        raise ValueError(
            f"`questions_per_context` is {most}, and `collator` is a {type(collator).__name__}; expected a "
            "FeatureCollator or a RawCollator, which make `context_index`."
        )
    if "context_features" not in getattr(collator, "stores", ["context_features"]):
        raise ValueError(
            f"`questions_per_context` is {most}, and `collator` has no `context_store`, whose row numbers say which "
            "contexts are the same; expected one, or a RawCollator."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"`questions_per_context` is {most}, and one process feeds {args.n_gpu} devices; start one process a "
            "device (`torchrun`, `accelerate launch`)."
        )
    if getattr(args.accelerator_config, "dispatch_batches", None):
        raise ValueError(
            f"`questions_per_context` is {most}, and `args.accelerator_config` has `dispatch_batches`, which cuts a "
            "batch apart; expected False."
        )
    if not hasattr(rows, "__len__"):
        raise ValueError(f"`questions_per_context` is {most}, and the rows are a stream; expected a length.")


def share_contexts(
    rows: Any, collator: Any, args: TrainingArguments, most: int, terms: Sequence[Any] = ()
) -> tuple[QuestionGroups, Callable[[list[Any]], dict[str, Any]], TrainingArguments]:
    """Data, collator and arguments of a training whose batches hold up to `most` questions of each of their contexts.

    A step has about as many questions as before, and one list at least: the copy of the arguments counts lists. All
    have passed [`check_sharing`].

    Raises:
        ValueError: If a contrastive term would take questions of one context for each other's negatives.
    """
    groups, collator, args = QuestionGroups(rows, most, args.seed), copy.copy(collator), copy.copy(args)
    collator.share_contexts = True
    args.per_device_train_batch_size = max(1, round(args.per_device_train_batch_size * len(groups) / len(rows)))
    kept = {*FORWARD_INPUTS, *("labels", "label", "label_ids"), *(args.label_names or ())}
    collate = flat(collator, kept if args.remove_unused_columns else None)
    if any(isinstance(term.term, ContrastiveTerm) for term in terms) and "group_ids" not in collate([groups[0]]):
        raise ValueError(
            f"`questions_per_context` is {most}, and `terms` has a contrastive one, to which questions of one "
            "context would be each other's negatives; expected rows with `group_ids`, a number for each context."
        )
    return groups, collate, args
