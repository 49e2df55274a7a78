"""Rows that must be encoded -> batches, like lengths together; opened, ahead, by threads; and their tokens."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


Encode = Callable[[list[Any]], tuple[Tensor, Tensor | None]]
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
) -> Generator[Batch, None, None]:
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


@torch.no_grad()
def encode_rows(
    encode: Encode, items: list[Any], rows: list[int], inputs: Sequence[Any], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Real tokens (T, D) of each row of a batch, in `dtype`.

    Raises:
        ValueError: If `encode` returns a wrong shape, NaN, infinity or a row without tokens.
    """
    tokens, mask = encode(items)
    if tokens.ndim != 3 or len(tokens) != len(rows):
        wanted = f"tokens of shape ({len(rows)}, S, D) for {name_rows(rows)}"
        raise ValueError(f"encode must return {wanted}; got {tuple(tokens.shape)}")
    tokens = tokens.to("cpu", dtype)
    real = torch.ones(tokens.shape[:2], dtype=torch.bool) if mask is None else mask.cpu().bool()
    if real.shape != tokens.shape[:2]:
        raise ValueError(f"encode must return a mask of shape {tuple(tokens.shape[:2])}; got {tuple(real.shape)}")
    # A padded token may hold anything; only real ones are kept.
    finite = (tokens.isfinite().all(-1) | ~real).all(1)
    for sound, problem in ((finite, f"NaN or infinity (as {dtype})"), (real.any(1), "no real token")):
        if not sound.all():
            row = min(rows[place] for place in (~sound).nonzero()[:, 0].tolist())
            raise ValueError(f"encode returned {problem} for inputs[{row}] = {repr(inputs[row])[:80]}")
    return tokens[real].split(real.sum(1).tolist())


def name_rows(rows: list[int]) -> str:
    """What a message calls some rows."""
    in_a_row = rows == list(range(rows[0], rows[0] + len(rows)))
    return f"rows {rows[0]} to {rows[-1]}" if in_a_row else f"rows {', '.join(map(str, rows))}"


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
