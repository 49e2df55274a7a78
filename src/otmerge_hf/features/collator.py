"""Dataset rows that name feature rows -> the batch that the model's `forward` takes."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from transformers import default_data_collator

from .means import mean_features
from .store import FeatureStore


Rows = list[dict[str, Any]]


class FeatureCollator:
    """Look up both sides' cached features for a list of B dataset rows.

    A row has `context_features` and `query_features`, row numbers in the two stores, and `labels` if it has
    a label. The columns are named like `forward`'s arguments because the stock Trainer drops all others. A call gives
    `context_features` (B, S_c, D_c) and `query_features` (B, S_q, D_q) with their `..._mask` (B, S) int64, and
    `labels`: (B,) int64, or (B, C) float32 of scores. A row about several images has a list of row numbers as its
    `context_features`: their tokens follow one another, and `image_mask` (B, n) says how many a row has.

    Args:
        context_store: Features of the context side, or None if that side is not cached.
        query_store: Features of the query side, or None.
        rest: Collates what is left of the rows (the raw inputs of a side without a store, say); by default
            transformers' `default_data_collator`.
        pooling: None gives every token. `"mean"` gives each row's mean token, (B, 1, D): faster, and exact for the
            losses on shared embeddings with affine adapters (`linear`, `orthogonal`, `monge`). A fuser and a
            reconstruction look at single tokens: for them leave it None.
        num_labels: Answers that there are; needed where labels are `{"answers": [...], "scores": [...]}`.
        share_contexts: Whether rows that name one context share it: `context_features` (U, S_c, D_c) are then the U
            distinct ones, and `context_index` (B,) says which is whose. Such a batch cannot be cut apart: start one
            process a device, not one for several (`torch.nn.DataParallel`).

    Raises:
        IndexError: If a row number is not in its store; the message names the column.
        ValueError: If `pooling` is unknown, a row lacks a column, rows differ in whether or how they are labelled, or
            several row numbers stand where one is expected.

    Example:
        >>> import tempfile
        >>> from otmerge_hf.features import compute_features
        >>> encode = lambda texts: (torch.ones(len(texts), 3, 8), None)
        >>> store = compute_features(encode, ["a", "b"], cache_dir=tempfile.mkdtemp(), key={})
        >>> batch = FeatureCollator(None, store)([{"query_features": 1, "labels": 4}])
        >>> {name: tuple(tensor.shape) for name, tensor in batch.items()}
        {'query_features': (1, 3, 8), 'query_features_mask': (1, 3), 'labels': (1,)}
    """

    def __init__(
        self,
        context_store: FeatureStore | None,
        query_store: FeatureStore | None,
        rest: Callable[[Rows], dict[str, Any]] | None = None,
        pooling: Literal["mean"] | None = None,
        num_labels: int | None = None,
        share_contexts: bool = False,
    ) -> None:
        if pooling not in (None, "mean"):
            raise ValueError(f"pooling must be None or 'mean'; got {pooling!r}")
        stores = {"context_features": context_store, "query_features": query_store}
        self.stores = {column: store for column, store in stores.items() if store is not None}
        self.rest = rest or default_data_collator
        self.pooling, self.num_labels, self.share_contexts = pooling, num_labels, share_contexts
        self._means = {column: mean_features(store) for column, store in self.stores.items() if pooling == "mean"}

    def __call__(self, rows: Rows) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for column, store in self.stores.items():
            ids = _column(rows, column)
            if self.share_contexts and column == "context_features":
                # first in the batch: Trainer counts its rows by the first tensor
                ids, batch["context_index"] = distinct(ids)
            several = any(isinstance(item, list | tuple) for item in ids)
            if several and (column != "context_features" or self.pooling):
                where = f"{column} of a batch" if self.pooling is None else f"{column} with pooling={self.pooling!r}"
                raise ValueError(f"{where} holds lists of row numbers; expected one row number a row")
            try:
                if several:
                    batch[column], batch[f"{column}_mask"], batch["image_mask"] = lay_in_rows(store, ids)
                    continue
                if self.pooling is None:
                    batch[column], batch[f"{column}_mask"] = store.batch(ids)
                    continue
                store.check_rows(ids)
            except IndexError as error:
                raise IndexError(f"column {column}: {error}") from error
            batch[column] = self._means[column][ids, None]  # (B, 1, D)
            batch[f"{column}_mask"] = torch.ones(len(ids), 1, dtype=torch.int64)
        if any("labels" in row for row in rows):
            batch["labels"] = dense_labels(_column(rows, "labels"), self.num_labels)
        left = [{k: v for k, v in row.items() if k not in self.stores and k != "labels"} for row in rows]
        if any(left):
            batch |= self.rest(left)
        return batch


def distinct(ids: Sequence[Any]) -> tuple[list[Any], torch.Tensor]:
    """The distinct row numbers (or lists of them) in the order in which they come, and each row's place among them.

    Example:
        >>> distinct([7, 3, 7])
        ([7, 3], tensor([0, 1, 0]))
    """
    keys = [hashable(item) for item in ids]
    place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [list(key) if isinstance(key, tuple) else key for key in place], torch.tensor([place[key] for key in keys])


def hashable(item: Any) -> Any:
    """A row number, or several, as an `int` or a tuple of them: tensors would differ though their numbers are equal.

    Example:
        >>> hashable(torch.tensor(7)), hashable([3, 1])
        (7, (3, 1))
    """
    item = item.tolist() if hasattr(item, "tolist") else item
    return tuple(item) if isinstance(item, list) else item


def lay_in_rows(store: FeatureStore, ids: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Features of B rows that name up to n of a store's rows each: their tokens, one row of the store after another.

    Returns:
        Features (B, n * S, D), S the most tokens of one; their mask (B, n * S); and that of the n places, (B, n).

    Raises:
        IndexError: If a row number is not in the store.
        ValueError: If a row names none.
    """
    places = [list(item) if isinstance(item, list | tuple) else [item] for item in ids]
    counts = torch.tensor([len(row) for row in places])
    if not counts.all():
        raise ValueError(f"row {int(counts.argmin())} of the batch names no row of the store; expected at least one")
    there = torch.arange(int(counts.max())) < counts[:, None]  # (B, n)
    tokens, mask = store.batch([place for row in places for place in row])  # (images, S, D), (images, S)
    if not there.all():
        found = (tokens, mask)
        tokens, mask = (some.new_zeros(there.numel(), *some.shape[1:]) for some in found)
        tokens[there.flatten()], mask[there.flatten()] = found
    shape = there.shape
    return tokens.unflatten(0, shape).flatten(1, 2), mask.unflatten(0, shape).flatten(1, 2), there.long()


def _column(rows: Rows, name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        place = next(i for i, row in enumerate(rows) if name not in row)
        raise ValueError(f"row {place} of the batch has no {name}; it has {sorted(rows[place])}") from None


def dense_labels(values: Sequence[Any], num_labels: int | None = None) -> torch.Tensor:
    """Labels of B rows: (B,) int64 of classes, or (B, num_labels) float32 of scores.

    Args:
        values: A class each, a list of scores, or `{"answers": [class, ...], "scores": [score, ...]}`, zero elsewhere.
        num_labels: Needed for the latter.

    Raises:
        ValueError: If they are not all alike.

    Example:
        >>> dense_labels([{"answers": [2, 0], "scores": [0.9, 0.3]}], 3)
        tensor([[0.3000, 0.0000, 0.9000]])
    """
    if isinstance(values[0], dict):
        if num_labels is None:
            raise ValueError("num_labels must be given where labels are answers with scores")
        dense = torch.zeros(len(values), num_labels)
        for row, value in zip(dense, values, strict=True):
            try:
                row[list(map(int, value["answers"]))] = torch.as_tensor(value["scores"], dtype=torch.float32)
            except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                expected = f"`answers`, classes below {num_labels}, and as many `scores`"
                raise ValueError(f"labels hold {value!r}; expected {expected}") from error
        return dense
    try:
        labels = torch.stack(values) if isinstance(values[0], torch.Tensor) else torch.tensor(values)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be one class or one list of scores per row, all alike: {error}") from error
    return labels.long() if labels.ndim == 1 and not labels.is_floating_point() else labels.float()
