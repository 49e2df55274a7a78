"""Questions about one context side by side in a batch, so that its encoder and adapter run once for them."""

import copy
import random
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset
from transformers import TrainingArguments


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
        for row in range(len(rows)):
            context = rows[row]["context_features"]
            places.setdefault(tuple(context) if isinstance(context, list) else context, []).append(row)
        draw, self.groups = random.Random(seed), []
        for together in places.values():
            draw.shuffle(together)
            lists = -(-len(together) // most)
            self.groups += [together[first::lists] for first in range(lists)]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, group: int) -> list[Any]:
        return [self.rows[row] for row in self.groups[group]]


def flat(collator: Callable[[list[Any]], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    """The same collator, for rows and for lists of rows."""

    def collate(items: list[Any]) -> dict[str, Any]:
        return collator([row for item in items for row in (item if isinstance(item, list) else [item])])

    return collate


def share_contexts(
    rows: Any, collator: Any, args: TrainingArguments, most: int
) -> tuple[QuestionGroups, Callable[[list[Any]], dict[str, Any]], TrainingArguments]:
    """Data, collator and arguments of a training whose batches hold up to `most` questions of each of their contexts.

    A step has about as many questions as before: the copy of the arguments counts lists.

    Raises:
        ValueError: If the collator does not know shared contexts, there is no length, or one process feeds several
            devices, which would cut a batch apart.
    """
    if not hasattr(collator, "share_contexts"):
        raise ValueError(
            f"`questions_per_context` is {most}, and `collator` is a {type(collator).__name__}; expected a "
            "FeatureCollator or a RawCollator, which make `context_index`."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"`questions_per_context` is {most}, and one process feeds {args.n_gpu} devices; start one process a "
            "device (`torchrun`, `accelerate launch`)."
        )
    if not hasattr(rows, "__len__"):
        raise ValueError(f"`questions_per_context` is {most}, and the rows are a stream; expected a length.")
    groups, collator, args = QuestionGroups(rows, most, args.seed), copy.copy(collator), copy.copy(args)
    collator.share_contexts = True
    args.per_device_train_batch_size = max(1, round(args.per_device_train_batch_size * len(groups) / len(rows)))
    return groups, flat(collator), args
