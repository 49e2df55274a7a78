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
from .keys import digest, inputs_key
from .reading import ShardReader, open_files
from .shards import INDEX, Shard, Verify, read_index
from .store import FeatureStore, check_verify


logger = logging.getLogger(__name__)

Span = tuple[int, int]


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
) -> FeatureStore:
    """Encode every input once and keep the tokens on disk, row by row; later calls with the same key read them.

    The folder is named by a hash of `key`, the inputs' content and `dtype`. Finished shards of an interrupted
    run are kept; a shard that is damaged or belongs to something else is named in a warning and computed again.

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

    Raises:
        FileNotFoundError: If `load` finds no file; the message has the row.
        ValueError: If `inputs` is empty, a size is not positive, `key` is not JSON, or `encode` returns
            NaN, infinity, a row without tokens, a wrong shape, or another D than before.

    Example:
        >>> import tempfile
        >>> encode = lambda texts: (torch.ones(len(texts), 3, 8), None)
        >>> arguments = dict(inputs=["a", "b"], cache_dir=tempfile.mkdtemp(), key={"encoder": "ones"})
        >>> compute_features(encode, **arguments).reused, compute_features(encode, **arguments).reused
        (False, True)
    """
    _check_arguments(inputs, batch_size, shard_size, dtype, workers)
    check_verify(verify)
    full_key = {"encoder": key, "inputs": inputs_key(inputs), "stored_dtype": str(dtype).removeprefix("torch.")}
    name = digest(full_key)
    full_key = json.loads(json.dumps(full_key))  # as it will be read back: tuples become lists
    folder = Path(cache_dir) / name[:32]
    folder.mkdir(parents=True, exist_ok=True)
    shards.remove_leftovers(folder)

    spans, done = _usable(folder, full_key, len(inputs), shard_size, verify)
    missing = [span for span in spans if span not in done]
    if missing and not done:
        _name_stale_siblings(folder, full_key)
    feature_dim = ShardReader(folder / next(iter(done.values())).file, open_files()).feature_dim if done else 0
    rows = sum(last - first for first, last in missing)
    batches = (rows for span in missing for rows in in_batches(inputs, *span, batch_size, load, length))
    with (
        tqdm(total=rows, desc="features", unit="row", disable=not progress or not missing) as bar,
        closing(open_ahead(inputs, batches, load, workers)) as opened,
    ):
        for first, last in missing:
            made: dict[int, Tensor] = {}  # row -> its real tokens (T, D)
            while len(made) < last - first:
                batch, items = next(opened)
                tokens = encode_rows(encode, items, batch, inputs, dtype)
                found = tokens[0].shape[1]
                feature_dim = feature_dim or found
                if found != feature_dim:
                    got = f"{found} features per token for {name_rows(batch)}"
                    raise ValueError(f"encode returned {got}, but {feature_dim} before")
                made |= zip(batch, tokens, strict=True)
                bar.update(len(batch))
            in_order = [made[row] for row in range(first, last)]
            lengths = torch.tensor([len(row) for row in in_order])
            done[first, last] = shards.write_shard(folder, first, torch.cat(in_order), lengths, name)
    if missing or not (folder / INDEX).is_file():
        shards.write_index(folder, full_key, feature_dim, dtype, [done[span] for span in spans])

    store = FeatureStore(folder, verify="size")  # every shard was checked or written just now
    store.reused = not missing
    if missing:
        logger.info("computed features of %d of %d rows, kept in %s", rows, len(store), folder)
    else:
        logger.info("reused features of %d rows from %s", len(store), folder)
    return store


def _usable(folder: Path, key: dict, rows: int, size: int, verify: Verify) -> tuple[list[Span], dict[Span, Shard]]:
    """The row ranges of the store's shards, and the shards that are there and sound."""
    spans = [(first, min(first + size, rows)) for first in range(0, rows, size)]
    problems: dict[str, str] = {}
    try:
        index = read_index(folder)
        if index["key"] != key or index["rows"] != rows:
            raise ValueError(f"{folder / INDEX} belongs to another key")
        found = index["shards"]
        spans = [(shard.first, shard.last) for shard in found]
        problems = {s.file: problem for s in found if (problem := shards.shard_problem(folder, s, verify))}
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error, ValueError):
            logger.warning("%s; rebuilt from the shards that are sound", error)
            (folder / INDEX).unlink(missing_ok=True)
        found, problems = shards.find_shards(folder, digest(key))
        others = [shard.file for shard in found if (shard.first, shard.last) not in spans]
        problems |= dict.fromkeys(others, f"does not hold {size} rows as asked for")
    for file, problem in problems.items():
        logger.warning("%s %s; its rows are computed again", folder / file, problem)
        (folder / file).unlink(missing_ok=True)
    return spans, {(shard.first, shard.last): shard for shard in found if shard.file not in problems}


def _name_stale_siblings(folder: Path, key: dict) -> None:
    """Warn of finished stores of the very same inputs that cannot be used, and say what is different."""
    for path in sorted(folder.parent.glob(f"*/{INDEX}")):
        try:
            other = read_index(path.parent)["key"]
        except ValueError as error:
            logger.warning("not used: %s", error)
            continue
        if other.get("inputs") == key["inputs"] and other != key:
            ours, theirs = ({**k["encoder"], "stored_dtype": k["stored_dtype"]} for k in (key, other))
            names = ", ".join(sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)))
            logger.warning("%s has features of the same inputs with another %s; not used", path.parent, names)


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
