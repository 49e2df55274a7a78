"""Repeated inputs -> each once, and which one every row uses."""

from collections.abc import Hashable, Iterable
from typing import TypeVar


T = TypeVar("T", bound=Hashable)


def index_distinct(values: Iterable[T]) -> tuple[list[T], list[int]]:
    """List each of N values once, in order of first appearance, and the place of every row's value in that list.

    Frozen features are computed for the M <= N distinct values only; the N row ids, in [0, M), become the dataset's
    `context_features` or `query_features` column. `distinct[ids[i]] == values[i]` for every row i.

    Example:
        >>> index_distinct(["what color?", "what shape?", "what color?"])
        (['what color?', 'what shape?'], [0, 1, 0])
    """
    place: dict[T, int] = {}
    ids = [place.setdefault(value, len(place)) for value in values]
    return list(place), ids
