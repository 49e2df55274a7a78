"""Rows of one shard, read from the file when they are asked for.

Read, not mapped: mapped pages count as the reader's memory until the system wants them back, and a file that was cut
short ends the process instead of raising.
"""

import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import safe_open


_OPEN_FILES = 64  # kept open at a time; below the usual limit of a process however many shards there are


class ShardReader:
    """Tokens of the rows of one safetensors file that `shards.write_shard` wrote.

    Args:
        path: The file.

    Raises:
        ValueError: On reading, if the file has become shorter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with safe_open(path, framework="np") as file:
            # Where each row's tokens begin, with the end of the last row.
            self.offsets = [0, *file.get_tensor("lengths").cumsum().tolist()]
        with path.open("rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(size))
        self._begin = 8 + size + header["tokens"]["data_offsets"][0]
        self.feature_dim: int = header["tokens"]["shape"][1]

    def length(self, row: int) -> int:
        """Tokens of the row, counted within the shard."""
        return self.offsets[row + 1] - self.offsets[row]

    def read(self, row: int, target: np.ndarray) -> None:
        """Fill ``target`` (tokens, D), contiguous and of the stored element size, with the tokens of a row."""
        if len(target) == 0:
            return
        position = self._begin + self.offsets[row] * target.strides[0]
        view = target.data.cast("B")
        if _read_at(self.path, position, view) != len(view):
            raise ValueError(f"{self.path} is shorter than when it was opened; call compute_features to rebuild it")


def _read_at(path: Path, position: int, view: memoryview) -> int:
    if hasattr(os, "preadv"):  # no shared position: safe in threads and in forked loader workers
        handle = _handle(path)
        return os.preadv(handle.number, [view], position)
    with path.open("rb", buffering=0) as file:
        file.seek(position)
        return file.readinto(view) or 0


class _Handle:
    """An open file that is closed when it has dropped out of the cache and nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)


_handle = lru_cache(maxsize=_OPEN_FILES)(_Handle)
