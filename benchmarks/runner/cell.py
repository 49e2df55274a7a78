"""One cell of a benchmark: its settings and the key that they make; and what a suite must say about its cells."""

import hashlib
import json
from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


FORMAT = 1
Record = dict[str, Any]


def key_of(settings: Mapping[str, Any]) -> str:
    """Hash of some settings: what a record is found by.

    Example:
        >>> key_of({"b": 1, "a": 2}) == key_of({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """One measurement: a suite and all choices that its result depends on.

    Attributes:
        suite: Name of the suite.
        choices: Plain data. For `easy-vqa`: `method` and `recipe`.

    Example:
        >>> Cell("transport", {"n": 64}).settings
        {'format': 1, 'suite': 'transport', 'n': 64}
    """

    suite: str
    choices: Mapping[str, Any] = field(hash=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on."""
        return {"format": FORMAT, "suite": self.suite, **self.choices}

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return key_of(self.settings)


@dataclass(frozen=True)
class Place:
    """Where a cell reads and writes.

    Attributes:
        results: Folder of the suite's records and report.
        cache: Folder of what can be computed again: features, checkpoints, pictures.
        report_progress: Takes the share of the cell's work that is done, in [0, 1].
    """

    results: Path
    cache: Path
    report_progress: Callable[[float], None] = field(default=lambda share: None)


class Suite(ABC):
    """One benchmark. A module of `suites/` has one, as `SUITE`; importing it imports neither torch nor the package.

    Attributes:
        name: What `python -m benchmarks run` calls it.
        has_threads: Whether the number of threads is a choice of its cells, by an argument of its own.
    """

    name: str
    has_threads = False

    @abstractmethod
    def add_arguments(self, parser: ArgumentParser) -> None:
        """State the suite's own arguments."""

    @abstractmethod
    def cells(self, arguments: Namespace) -> list[Cell]:
        """List the cells that the arguments ask for, in the order of running.

        Raises:
            ValueError: If an argument is out of range.
        """

    @abstractmethod
    def label(self, cell: Cell) -> str:
        """Say what the cell is, in a few words."""

    @abstractmethod
    def measure(self, cell: Cell, place: Place) -> Record:
        """Do the work, in a process of its own, and return plain data."""

    @abstractmethod
    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        """Write tables and plots from finished cells alone.

        Returns:
            The files written; the first is the table.
        """

    def is_trial(self, arguments: Namespace) -> bool:
        """Whether the arguments ask for a trial, whose results must not take the place of the committed ones."""
        return False

    def environment(self, cell: Cell) -> dict[str, str]:
        """Environment variables of the cell's process."""
        return {}

    def prepare(self, cell: Cell, place: Place, work: Callable[..., None]) -> None:
        """Make what the cell needs first.

        Args:
            cell: What will run.
            place: Where.
            work: `work(function, keep_in, **arguments)` runs `module:function` in a process of its own, adds the
                record it returns to the file `keep_in`, and raises if it fails.
        """
        return  # most suites need nothing first
