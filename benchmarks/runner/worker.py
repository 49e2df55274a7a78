"""The process of one piece of work: `python -m benchmarks.runner.worker WORK.json`, started by [`run`].

Imports no more than the work needs: its memory is a figure of the report.
"""

import json
import logging
import sys
from importlib import import_module
from pathlib import Path

from .cell import Cell, Place
from .records import Records


def main(work_file: str) -> None:
    """Call the function that the file names and keep what it returns; progress goes to standard output.

    The record is added by this process, so that it is kept even if the one that started it is gone.
    """
    logging.basicConfig(level=logging.WARNING)
    work = json.loads(Path(work_file).read_text())
    module, function = work["function"].split(":")
    record = getattr(import_module(module), function)(**work["arguments"])
    Records(Path(work["keep_in"])).add(record)


def measure_cell(suite: str, choices: dict, results: str, cache: str) -> dict:
    """Measure one cell of a suite.

    Returns:
        Its record: key, settings, and what the suite measured.
    """
    from ..suites import get_suite

    cell = Cell(suite, choices)
    place = Place(Path(results), Path(cache), _report_progress)
    return {"key": cell.key, "settings": cell.settings} | get_suite(suite).measure(cell, place)


def _report_progress(share: float, last: list[int] = [-1]) -> None:  # noqa: B006 -- remembers what was reported
    percent = int(100 * share)
    if percent != last[0]:
        last[0] = percent
        sys.stdout.write(f"{percent}%\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
