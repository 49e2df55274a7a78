"""Rows of one shard, read from the file when they are asked for.

Read, not mapped: mapped pages count as the reader's memory until the system wants them back, and a file that was cut
short ends the process instead of raising.
"""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import safe_open


class OpenFile:
    """A file that is open for reading as long as somebody holds this."""

    def __init__(self, path: Path) -> None:
        self.number = -1  # where opening fails there is nothing to close
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def open_files(limit: int = 64) -> Callable[[Path], OpenFile]:
    """An opener that keeps so many files open: fewer than a process may have, however many shards there are.

    One a store: another store of the same folder, made after a rebuild, must not get this one's old files.
    """
    return lru_cache(maxsize=limit)(OpenFile)


class ShardReader:
    """Tokens (T, D) of one file of [`write_shard`], opened by [`open_files`]; row i's begin at `offsets[i]`."""

    def __init__(self, path: Path, opener: Callable[[Path], OpenFile]) -> None:
        self.path, self._open = path.absolute(), opener  # opened later, perhaps from another working directory
        with safe_open(path, framework="np") as file:
            # an array: as Python's numbers those of ten million rows are 400 MB
            self.offsets: np.ndarray = np.append(0, file.get_tensor("lengths").cumsum())
        with path.open("rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(size))
        self._begin = 8 + size + header["tokens"]["data_offsets"][0]
        self.feature_dim: int = header["tokens"]["shape"][1]

    def length(self, row: int) -> int:
        """Tokens of the row, counted within the shard."""
        return int(self.offsets[row + 1] - self.offsets[row])

    def read(self, row: int, target: np.ndarray) -> None:
        """Fill `target` (tokens, D), contiguous and of the stored element size, with the tokens of a row.

        Raises an OSError if the file has gone, a ValueError if it has become shorter.
        """
        if target.size == 0:
            return
        position = self._begin + int(self.offsets[row]) * target.strides[0]
        view = target.data.cast("B")
        while len(view):
            count = self._read_at(position, view)
            if count == 0:
                problem = "is shorter than when it was opened"
                raise ValueError(f"{self.path} {problem}; call compute_features again to rebuild it")
            position, view = position + count, view[count:]

    def _read_at(self, position: int, view: memoryview) -> int:
        if hasattr(os, "preadv"):  # no shared position: safe in threads and in forked loader workers
            file = self._open(self.path)
            return os.preadv(file.number, [view], position)
        with self.path.open("rb", buffering=0) as raw:
            raw.seek(position)
            return raw.readinto(view) or 0
