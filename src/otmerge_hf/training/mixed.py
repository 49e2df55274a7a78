"""Batches of paired and unpaired rows, each with the same share of both."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset


logger = logging.getLogger(__name__)


def mixed_dataset(
    pairs: Sequence[Sequence[int]] | torch.Tensor,
    context_ids: Sequence[int] | torch.Tensor,
    query_ids: Sequence[int] | torch.Tensor,
    unpaired_per_pair: int,
    seed: int = 0,
    labels: Sequence[int] | None = None,
    group_ids: Sequence[int] | None = None,
) -> Dataset:
    """Make a data set whose items are one pair and some unpaired rows; collate it with [`MixedCollator`].

    An unpaired row is a context and a query that were drawn independently. One epoch goes over every pair and every
    unpaired id at least once: the shorter lists start again, in a new order. However Trainer shuffles and shards,
    every batch has one pair to `unpaired_per_pair` unpaired rows.

    Args:
        pairs: (P, 2): number of the context, number of the query, as rows of the feature stores.
        context_ids, query_ids: Numbers to draw unpaired rows from; the paired ones may be among them.
        unpaired_per_pair: u; 0 gives the pairs alone.
        labels: Answer of each pair, (P,); unpaired rows get -100, which the answer loss ignores.
        group_ids: Which pairs are no negatives of each other, (P,), from 0. By default those connected through common
            contexts and queries: right for some captions an image, but where sentences recur ("there is a circle" is
            true of many images) all pairs are connected and nothing is left to contrast. Give the query's number
            then: it keeps a sentence from being its own negative, though not from others true of the same image.

    Returns:
        Data set whose items hold lists of 1 + u numbers: `context_features`, `query_features`, `pair_mask`, which is
        1 for the first, `group_ids`, -1 for unpaired rows, and `labels` if given.

    Raises:
        ValueError: If there are no pairs, `unpaired_per_pair` is negative, or there is nothing unpaired to draw from.

    Example:
        >>> rest = range(2, 6)
        >>> dataset = mixed_dataset([[0, 0], [1, 1]], context_ids=rest, query_ids=rest, unpaired_per_pair=1)
        >>> len(dataset), dataset[0]["pair_mask"]
        (4, [1, 0])
    """
    couples = torch.as_tensor(pairs)
    if couples.dim() != 2 or couples.shape[1] != 2 or len(couples) == 0:
        raise ValueError(f"`pairs` has shape {tuple(couples.shape)}; expected (at least one pair, 2).")
    if unpaired_per_pair < 0:
        raise ValueError(f"`unpaired_per_pair` is {unpaired_per_pair}; expected 0 or more.")
    for name, column in (("labels", labels), ("group_ids", group_ids)):
        if column is not None and len(column) != len(couples):
            raise ValueError(f"`{name}` holds {len(column)} values for {len(couples)} pairs.")
    if group_ids is not None and min(group_ids) < 0:
        raise ValueError(f"`group_ids` holds {min(group_ids)}; expected 0 or more, for -1 marks unpaired rows.")
    groups = _groups(couples) if group_ids is None else torch.as_tensor(group_ids)
    if group_ids is None and len(couples) > 2 and len(groups.unique()) == 1:
        logger.warning("All pairs are connected: a contrastive term would have no negatives. Give `group_ids`.")
    pools = {"context": torch.as_tensor(list(context_ids)), "query": torch.as_tensor(list(query_ids))}
    for side, pool in pools.items():
        if unpaired_per_pair and len(pool) == 0:
            raise ValueError(f"`{side}_ids` is empty; expected numbers to draw unpaired rows from.")
    count = len(couples)
    if unpaired_per_pair:
        count = max(count, *(-(-len(pool) // unpaired_per_pair) for pool in pools.values()))
    generator = torch.Generator().manual_seed(seed)
    order = _cycle(torch.arange(len(couples)), count, generator)
    columns = {}
    for place, (side, pool) in enumerate(pools.items()):
        unpaired = _cycle(pool, count * unpaired_per_pair, generator).view(count, -1)
        columns[f"{side}_features"] = torch.cat([couples[order, place, None], unpaired], dim=1)
    first = torch.arange(1 + unpaired_per_pair).expand(count, -1) == 0
    columns |= {"pair_mask": first.long(), "group_ids": torch.where(first, groups[order, None], -1)}
    if labels is not None:
        columns["labels"] = torch.where(first, torch.as_tensor(labels)[order, None], -100)
    return Dataset.from_dict({name: column.tolist() for name, column in columns.items()})


def _cycle(values: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` of the values: all of them in random order, then all again in another, as often as it takes."""
    if count == 0:
        return values[:0]
    rounds = -(-count // len(values))
    return torch.cat([values[torch.randperm(len(values), generator=generator)] for _ in range(rounds)])[:count]


def _groups(pairs: torch.Tensor) -> torch.Tensor:
    """One number (P,) for all pairs that are connected by a common context or a common query."""
    contexts, queries = (side.unique(return_inverse=True)[1] for side in pairs.T)
    groups = torch.arange(len(pairs))
    while True:
        before = groups
        for ends in (contexts, queries):
            least = torch.full((len(pairs),), len(pairs)).scatter_reduce(0, ends, groups, "amin")
            groups = least[ends]
        if torch.equal(groups, before):
            return groups


class MixedCollator:
    """Unfolds the blocks of [`mixed_dataset`] into rows and hands them to another collator, that of single rows.

    With a batch size of n the model sees n pairs and n * u unpaired rows.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate blocks; see the class."""
        if "pair_mask" not in blocks[0]:
            raise ValueError(f"A block has {sorted(blocks[0])} and no `pair_mask`; expected items of `mixed_dataset`.")
        rows = [dict(zip(block, row, strict=True)) for block in blocks for row in zip(*block.values(), strict=True)]
        return self.collate(rows)
