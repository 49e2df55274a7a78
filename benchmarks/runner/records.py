"""Finished work in one file: a record a line, sorted by key, rewritten whole so that nothing finished is lost."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .cell import FORMAT, Record


try:
    import fcntl
except ImportError:  # on Windows, where two processes must not add to one file at a time
    fcntl = None  # type: ignore[assignment]


class Records:
    """A file of JSON lines, each record with its own `key`.

    Adding a record writes a new file beside the old one and renames it, under a lock: a process that is killed leaves
    the old file or the new one, and two processes that add at once both find their records there.

    Args:
        path: The file; it need not exist.

    Example:
        >>> import tempfile
        >>> records = Records(Path(tempfile.mkdtemp()) / "cells.jsonl")
        >>> records.add({"key": "b", "format": 1})
        >>> records.add({"key": "a", "format": 1})
        >>> list(records.read())
        ['a', 'b']
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Record]:
        """All records by key, in the order of the keys.

        Raises:
            ValueError: If a line is no record, or one of another format.
        """
        if not self.path.is_file():
            return {}
        found: dict[str, Record] = {}
        for number, line in enumerate(self.path.read_text().splitlines(), start=1):
            try:
                record = json.loads(line)
                key = record["key"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{self.path}, line {number}: expected a JSON object with a `key`.") from None
            form = record.get("settings", record).get("format")
            if form != FORMAT:
                raise ValueError(f"{self.path}, line {number} is of format {form}; expected {FORMAT}.")
            found[key] = record
        return found

    def add(self, record: Record) -> None:
        """Add a record, in the place of one with the same key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path.parent):
            records = self.read() | {record["key"]: record}
            lines = [json.dumps(records[key]) + "\n" for key in sorted(records)]
            write_whole(self.path, "".join(lines))


def write_whole(path: Path, text: str) -> None:
    """Write beside the file, force to disk, rename: a reader sees the old file or the whole new one.

    As the package's feature shards are written; repeated here, because this module is read where torch must not be.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; the system lets go when the process ends, however it ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
