"""A frozen encoder and its distinct inputs -> a store of features, computing only what is not there yet."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from . import shards
from .batches import Encode, encode_rows, in_batches, name_rows, open_ahead
from .finished import Span, difference, name_stale_siblings, usable_shards
from .keys import digest, inputs_key
from .ranks import join_ranks
from .reading import ShardReader, open_files
from .shards import INDEX, Shard, Verify
from .store import FeatureStore, check_verify


logger = logging.getLogger(__name__)


def compute_features(
    encode: Encode,
    inputs: Sequence[Any],
    *,
    cache_dir: str | os.PathLike,
    key: dict[str, Any],
    batch_size: int = 64,
    shard_size: int = 512,
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
    verify: Verify = "full",
    length: Callable[[Any], int] | None = None,
    load: Callable[[Any], Any] = lambda item: item,
    workers: int = 0,
    share: bool = True,
) -> FeatureStore:
    """Encode every input once and keep the tokens on disk, row by row; later calls with the same key read them.

    The folder is named by a hash of `key`, the inputs' content and `dtype`. Finished shards of an interrupted
    run are kept; a shard that is damaged or belongs to something else is named in a warning and computed again.

    Under `accelerate launch` or `torchrun` every rank calls with the same arguments and computes its share of the
    missing shards; all return the same store, equal byte for byte to that of one process.

    Args:
        encode: Turns a list of B inputs, as `load` returns them, into tokens (B, S, D) and a mask (B, S), non-zero
            where a token is real (None: all are). Called without gradient; S may change from call to call, D may not.
        inputs: N distinct inputs: text, paths, PIL images or arrays.
        cache_dir: Folder that holds the stores of many keys.
        key: What the features depend on besides the inputs, from [`encoder_key`]; JSON values.
        batch_size: Inputs per call of `encode`.
        shard_size: Rows per file; at most this many are computed twice after an interruption.
        dtype: Type in which the features are kept.
        verify: `full` compares every file's SHA-256, `size` only its size.
        length: Length of an opened input. With it, rows of like length of one shard are encoded together, so that
            little is padded; they are kept in the order of `inputs`.
        load: Opens an input, just before `encode`; by default it is taken as it is.
        workers: Threads that open inputs ahead of `encode`; then `inputs` and `load` are used by several at once.
        share: Whether the ranks of a launch share the work, which all have to call for. False: this process alone,
            as where only one rank calls (`main_process_first`).

    Raises:
        FileNotFoundError: If `load` finds no file; the message has the row.
        ValueError: If `inputs` is empty, a size is not positive, `key` is not JSON, or `encode` returns
            NaN, infinity, a row without tokens, a wrong shape, or another D than before. If ranks were given
            different inputs, encoders or folders.
        RuntimeError: If another rank failed or ended; what is finished is kept.

    Example:
        >>> import tempfile
        >>> encode = lambda texts: (torch.ones(len(texts), 3, 8), None)
        >>> arguments = dict(inputs=["a", "b"], cache_dir=tempfile.mkdtemp(), key={"encoder": "ones"})
        >>> compute_features(encode, **arguments).reused, compute_features(encode, **arguments).reused
        (False, True)
    """

    def identify() -> tuple[str, dict[str, Any], str]:
        _check_arguments(inputs, batch_size, shard_size, dtype, workers)
        check_verify(verify)
        full_key = {"encoder": key, "inputs": inputs_key(inputs), "stored_dtype": str(dtype).removeprefix("torch.")}
        # as it will be read back: tuples become lists
        return digest(full_key), json.loads(json.dumps(full_key)), str(Path(cache_dir).absolute())

    ranks = join_ranks(share)
    identities = ranks.gather(identify)
    name, full_key, place = identities[0]
    for rank, (_, other, where) in enumerate(identities):
        if other != full_key:
            raise ValueError(f"rank {rank} has another {difference(other, full_key)} than rank 0")
        if where != place:
            raise ValueError(f"rank {rank} has `cache_dir` {where} and rank 0 {place}; expected one that all see")
    folder = Path(cache_dir) / name[:32]

    def look() -> tuple[list[Span], dict[Span, Shard], int]:
        folder.mkdir(parents=True, exist_ok=True)
        shards.remove_leftovers(folder)
        spans, done = usable_shards(folder, full_key, len(inputs), shard_size, verify)
        if not done:
            name_stale_siblings(folder, full_key)
            return spans, done, 0
        return spans, done, ShardReader(folder / next(iter(done.values())).file, open_files()).feature_dim

    # rank 0 alone: what another finishes meanwhile would make the ranks' lists of what is missing differ
    spans, done, known_dim = ranks.gather(look if ranks.number == 0 else lambda: ([], {}, 0))[0]
    missing = [span for span in spans if span not in done]
    mine = missing[ranks.number :: ranks.count]

    hidden = not (progress and mine) or ranks.number > 0

    def compute() -> tuple[dict[Span, Shard], int]:
        batches = (rows for span in mine for rows in in_batches(inputs, *span, batch_size, load, length))
        with (
            tqdm(total=_rows(mine), desc="features", unit="row", disable=hidden) as bar,
            closing(open_ahead(inputs, batches, load, workers)) as opened,
        ):
            made, feature_dim = {}, known_dim
            for first, last in mine:
                found: dict[int, Tensor] = {}  # row -> its real tokens (T, D)
                while len(found) < last - first:
                    batch, items = next(opened)
                    tokens = encode_rows(encode, items, batch, inputs, dtype)
                    feature_dim = _same_dim(tokens[0].shape[1], feature_dim, name_rows(batch))
                    found |= zip(batch, tokens, strict=True)
                    bar.update(len(batch))
                in_order = [found[row] for row in range(first, last)]
                lengths = torch.tensor([len(row) for row in in_order])
                made[first, last] = shards.write_shard(folder, first, torch.cat(in_order), lengths, name)
        return made, feature_dim

    feature_dim = known_dim
    for rank, (made, found) in enumerate(ranks.gather(compute)):
        done |= made
        feature_dim = _same_dim(found or feature_dim, feature_dim, f"the rows of rank {rank}")

    def finish() -> None:
        if missing or not (folder / INDEX).is_file():
            shards.write_index(folder, full_key, feature_dim, dtype, [done[span] for span in spans])

    ranks.gather(finish if ranks.number == 0 else lambda: None)

    store = FeatureStore(folder, verify="size")  # every shard was checked or written just now
    store.reused = not missing
    if missing:
        logger.info("computed features of %d of %d rows, kept in %s", _rows(mine), len(store), folder)
    else:
        logger.info("reused features of %d rows from %s", len(store), folder)
    return store


def _rows(spans: Sequence[Span]) -> int:
    return sum(last - first for first, last in spans)


def _same_dim(found: int, before: int, where: str) -> int:
    if before not in (0, found):
        raise ValueError(f"encode returned {found} features per token for {where}, but {before} before")
    return found


def _check_arguments(
    inputs: Sequence[Any], batch_size: int, shard_size: int, dtype: torch.dtype, workers: int
) -> None:
    if isinstance(inputs, str) or len(inputs) == 0:
        raise ValueError(f"inputs must be a non-empty sequence of inputs; got {inputs!r}")
    for name, size in (("batch_size", batch_size), ("shard_size", shard_size)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive whole number of rows; got {size!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers must be a number of threads, 0 or more; got {workers!r}")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point torch.dtype; got {dtype!r}")
