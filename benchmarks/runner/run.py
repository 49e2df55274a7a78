"""Cells run one after another, each in a process of its own; what is there already is not run again."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cell import Cell, Place, Suite
from .progress import progress_bar
from .records import Records


ROOT = Path(__file__).parents[2]


def run_cells(
    suite: Suite, cells: Sequence[Cell], place: Place, *, again: bool = False, progress: bool = True
) -> tuple[list[Cell], dict[str, str]]:
    """Run the cells that have no record yet.

    A process a cell, so that its peak memory is its own. An interrupted cell starts again, except where its suite
    keeps checkpoints. A cell that fails is reported and the others go on.

    Args:
        suite: What the cells are of.
        cells: What to run, in order.
        place: Folders of results and of what is cached.
        again: Whether to run finished cells anew, too.
        progress: Whether to show a bar.

    Returns:
        The cells that ran, and the last line of the error of each that failed, by label.
    """
    file = place.results / "cells.jsonl"
    known = {} if again else Records(file).read()
    waiting = [cell for cell in cells if cell.key not in known]
    ran, failed = [], {}
    with progress_bar(len(cells), len(cells) - len(waiting), progress) as bar:

        def work(function: str, keep_in: Path, environment: dict[str, str] | None = None, **arguments: Any) -> None:
            _run(function, keep_in, arguments, environment or {}, bar)

        for cell in waiting:
            bar.set_description(suite.label(cell))
            checkpoints = checkpoint_folder(place, cell)
            try:
                suite.prepare(cell, place, work)
                work(
                    "benchmarks.runner.worker:measure_cell",
                    file,
                    suite.environment(cell),
                    suite=cell.suite,
                    choices=dict(cell.choices),
                    results=str(place.results.resolve()),
                    cache=str(place.cache.resolve()),
                )
                shutil.rmtree(checkpoints, ignore_errors=True)
                ran.append(cell)
            except WorkerError as error:
                label = suite.label(cell)
                failed[label] = str(error).strip().splitlines()[-1]
                bar.write(f"{label}: {failed[label]}")
            bar.update()
    return ran, failed


def checkpoint_folder(place: Place, cell: Cell) -> Path:
    """Where the cell's trainings resume after an interruption; removed when the cell is finished."""
    return place.cache / "checkpoints" / cell.key


class WorkerError(RuntimeError):
    """What a worker's process wrote before it died."""


def _run(function: str, keep_in: Path, arguments: dict[str, Any], environment: dict[str, str], bar: Any) -> None:
    before = [path for path in [os.environ.get("PYTHONPATH")] if path]
    with tempfile.TemporaryDirectory() as scratch:
        file, errors = Path(scratch) / "work.json", Path(scratch) / "errors"
        file.write_text(json.dumps({"function": function, "arguments": arguments, "keep_in": str(keep_in.resolve())}))
        with errors.open("w") as sink:
            command = [sys.executable, "-m", "benchmarks.runner.worker", str(file)]
            worker = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *before])} | environment,
            )
            try:
                assert worker.stdout is not None
                for line in worker.stdout:
                    if line.strip().rstrip("%").isdigit():
                        bar.set_postfix_str(line.strip())
                code = worker.wait()
            finally:
                if worker.poll() is None:
                    worker.terminate()
                    worker.wait()
        if code:
            raise WorkerError(errors.read_text().strip() or f"exit status {code}")
