"""Tokens of some rows -> one checked file, and the index that lists the files.

A shard is a safetensors file with `tokens` (T, D), the rows' real tokens one after another, and `lengths`
(rows,). Its name carries its rows and the start of its SHA-256, so a shard that lies there without an index (the
run was interrupted) can be checked too, and two writers never write different bytes under one name.
"""

import dataclasses
import hashlib
import json
import os
import re
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save

from .keys import digest


# Raise when the layout of shards or index changes: files of another format are computed again.
FORMAT = 1
INDEX = "index.json"
Verify = Literal["full", "size"]
_NAME = re.compile(r"rows-(\d+)-(\d+)-([0-9a-f]{16})\.safetensors")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of the store: rows [first, last), its size in bytes and its SHA-256."""

    file: str
    first: int
    last: int
    size: int
    sha256: str


def write_shard(folder: Path, first: int, tokens: torch.Tensor, lengths: torch.Tensor, key: str) -> Shard:
    """Write rows [first, first + R) atomically: their real tokens (T, D), how many each has (R,), the key's digest."""
    last = first + len(lengths)
    data = save({"tokens": tokens.contiguous(), "lengths": lengths.to(torch.int64)}, metadata=_stamp(key))
    sha256 = hashlib.sha256(data).hexdigest()
    file = f"rows-{first:08d}-{last:08d}-{sha256[:16]}.safetensors"
    write_atomically(folder / file, data)
    return Shard(file, first, last, len(data), sha256)


def shard_problem(folder: Path, shard: Shard, verify: Verify) -> str | None:
    """What is wrong with a shard's file, in words; None when nothing is."""
    path = folder / shard.file
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != shard.size:
        return f"has {path.stat().st_size} bytes instead of {shard.size}"
    if verify == "full" and _sha256(path) != shard.sha256:
        return "has another SHA-256 than when it was written"
    return None


def find_shards(folder: Path, key: str) -> tuple[list[Shard], dict[str, str]]:
    """Finished shards of an interrupted run, and the problems of those that cannot be used, by file name."""
    found, problems = [], {}
    for path in sorted(folder.glob("rows-*.safetensors")):
        match, sha256 = _NAME.fullmatch(path.name), _sha256(path)
        if match is None or not sha256.startswith(match[3]):
            problems[path.name] = "has another SHA-256 than its name says"
            continue
        with safe_open(path, framework="pt") as file:
            if file.metadata() != _stamp(key):
                problems[path.name] = "belongs to another key or format"
                continue
        found.append(Shard(path.name, int(match[1]), int(match[2]), path.stat().st_size, sha256))
    return found, problems


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a store; FileNotFoundError if there is none, ValueError if it is damaged or of another format."""
    data = (folder / INDEX).read_bytes()
    try:
        index = json.loads(data)
        found = index["format"]
        if found == FORMAT and index.pop("digest") != digest(index):
            raise ValueError("its content does not match its digest")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged: {error!r}") from error
    if found != FORMAT:
        raise ValueError(f"{folder / INDEX} has format {found!r}, this version reads {FORMAT}")
    return index | {"shards": [Shard(**shard) for shard in index["shards"]]}


def write_index(folder: Path, key: dict, feature_dim: int, dtype: torch.dtype, shards: list[Shard]) -> None:
    """List the shards of a finished store, atomically."""
    index = {"format": FORMAT, "key": key, "rows": shards[-1].last, "feature_dim": feature_dim}
    index |= {"dtype": str(dtype).removeprefix("torch."), "shards": [dataclasses.asdict(shard) for shard in shards]}
    index["digest"] = digest(index)
    write_atomically(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Write under a unique name, force to disk, rename: a reader sees the old file or the whole new one."""
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def remove_leftovers(folder: Path, older_than: float = 3600.0) -> None:
    """Remove what a killed writer left half-written; what is younger, in seconds, may still be written to."""
    for path in folder.glob(".tmp-*"):
        if time.time() - path.stat().st_mtime > older_than:
            path.unlink(missing_ok=True)


def _stamp(key: str) -> dict[str, str]:
    # One entry: safetensors writes several in random order, and equal features must give equal bytes.
    return {"otmerge_features": f"format {FORMAT} key {key}"}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
