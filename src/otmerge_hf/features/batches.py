"""Rows that must be encoded -> batches of opened inputs: like lengths together, and read ahead by threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


Batch = tuple[list[int], list[Any]]
_AHEAD = 2  # batches that wait, opened, for the encoder: memory stays the same however many inputs there are


def in_batches(
    inputs: Sequence[Any],
    first: int,
    last: int,
    batch_size: int,
    load: Callable[[Any], Any],
    length: Callable[[Any], int] | None = None,
) -> Iterator[list[int]]:
    """Rows [first, last) in lists of `batch_size`, the longest first, so that little is padded.

    The order depends on these rows alone, so that a shard is the same bytes in whichever run it is computed.

    Args:
        inputs: All inputs.
        first: First row.
        last: One after the last row.
        batch_size: Rows a list; the last one may have fewer.
        load: What is done to an input before it is measured.
        length: Length of an opened input, in any unit; None keeps the rows' order, and opens nothing.

    Raises:
        FileNotFoundError, ValueError: As `load` raises them, with the row before the message.

    Example:
        >>> list(in_batches(["a", "abc", "b", "ab"], 0, 4, batch_size=2, load=str, length=len))
        [[1, 3], [0, 2]]
    """
    rows = list(range(first, last))
    if length is not None:
        rows.sort(key=lambda row: -length(_open_row(inputs, row, load)))  # stable: rows of one length keep their order
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def open_ahead(
    inputs: Sequence[Any], batches: Iterable[list[int]], load: Callable[[Any], Any], workers: int = 0
) -> Iterator[Batch]:
    """Open the inputs of each batch, in order; with `workers` threads, while the batch before is being encoded.

    Args:
        inputs: All inputs.
        batches: Row numbers of each batch.
        load: What is done to an input before it is encoded; called by several threads at once if there are workers.
        workers: Threads; 0 opens in the caller's own.

    Yields:
        Row numbers and opened inputs of a batch.

    Raises:
        FileNotFoundError, ValueError: As `load` raises them, with the row before the message; of several, the one
            of the first row.

    Example:
        >>> list(open_ahead(["a", "b", "c"], [[2, 0], [1]], str.upper, workers=2))
        [([2, 0], ['C', 'A']), ([1], ['B'])]
    """

    if workers == 0:
        for rows in batches:
            yield rows, [_open_row(inputs, row, load) for row in rows]
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="open-inputs")
    waiting: deque[tuple[list[int], list[Future[Any]]]] = deque()
    try:
        for rows in batches:
            waiting.append((rows, [pool.submit(_open_row, inputs, row, load) for row in rows]))
            if len(waiting) > _AHEAD:
                yield _result(waiting)
        while waiting:
            yield _result(waiting)
    finally:
        pool.shutdown(cancel_futures=True)  # also when the encoder failed: nothing more is opened


def _open_row(inputs: Sequence[Any], row: int, load: Callable[[Any], Any]) -> Any:
    try:
        return load(inputs[row])
    except FileNotFoundError as error:
        raise FileNotFoundError(f"inputs[{row}]: {error}") from error
    except ValueError as error:
        raise ValueError(f"inputs[{row}]: {error}") from error


def _result(waiting: deque[tuple[list[int], list[Future[Any]]]]) -> Batch:
    rows, items = waiting.popleft()
    return rows, [item.result() for item in items]
