"""Cells run one after another, each in a process of its own; what is there already is not run again."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .cell import Cell
from .easy_vqa import write_rows
from .encoding import ROWS


def run_cells(
    cells: Sequence[Cell], folder: Path, cache_dir: Path, progress: bool = True
) -> tuple[list[Cell], dict[str, str]]:
    """Run the cells that have no JSON yet.

    A process a cell, so that its peak memory is its own. An interrupted cell starts again, except that `joint` and
    `lora` go on from their last tenth. A cell that fails is told and the others go on.

    Args:
        cells: What to run, in order.
        folder: Results: `cells/*.json`, and `features/*.json` with what the encoders cost.
        cache_dir: Where features and checkpoints are kept.
        progress: Whether to show a bar.

    Returns:
        The cells that ran, and the last line of the error of each that failed, by file name.
    """
    ran, failed = [], {}
    waiting = [cell for cell in cells if not (folder / "cells" / cell.file).is_file()]
    with tqdm(total=len(cells), initial=len(cells) - len(waiting), unit="cell", disable=not progress) as bar:
        for cell in waiting:
            bar.set_description(f"{cell.method} labels={cell.recipe.label_fraction:g} seed={cell.recipe.seed}")
            try:
                features, store = _features(cell, folder, cache_dir, bar)
                checkpoints = cache_dir / "checkpoints" / cell.key
                work = {"method": cell.method, "suite": cell.suite, "features": str(features.resolve())}
                work["checkpoints"] = str(checkpoints.resolve())
                _run(work, cell, store, folder / "cells" / cell.file, bar)
                shutil.rmtree(checkpoints, ignore_errors=True)
                ran.append(cell)
            except ChildError as error:
                failed[cell.file] = str(error).strip().splitlines()[-1] if str(error).strip() else "no message"
                bar.write(f"{cell.file}: {failed[cell.file]}")
            bar.update()
    return ran, failed


class ChildError(RuntimeError):
    """What a cell's process wrote before it died."""


def _features(cell: Cell, folder: Path, cache_dir: Path, bar: Any) -> tuple[Path, Path]:
    """The features' JSON and store, measured in a process of their own if either is missing."""
    record = folder / "features" / cell.features_file
    store = cache_dir / f"{cell.suite}-{Path(cell.features_file).stem}"
    if record.is_file():
        known = json.loads(record.read_text())
        if all((store / name).exists() for name in (ROWS, *(known[side]["store"] for side in ("context", "query")))):
            return record, store
    bar.set_postfix_str("features")
    shutil.rmtree(store, ignore_errors=True)  # else a part would be reused, and its cost not seen
    write_rows(store / ROWS)
    _run({"method": None, "suite": cell.suite}, cell, store, record, bar)
    return record, store


def _run(work: dict[str, Any], cell: Cell, store: Path, output: Path, bar: Any) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    work |= {"recipe": cell.recipe.to_dict(), "cache_dir": str(store.resolve()), "output": str(output.resolve())}
    with tempfile.TemporaryDirectory() as scratch:
        file, errors = Path(scratch) / "work.json", Path(scratch) / "errors"
        file.write_text(json.dumps(work))
        with errors.open("w") as sink:
            command = [sys.executable, "-m", f"{__package__}.child", str(file)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True)
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    if line.strip().isdigit():
                        bar.set_postfix_str(f"{line.strip()}%")
                code = child.wait()
            finally:
                if child.poll() is None:
                    child.terminate()
                    child.wait()
        if code:
            raise ChildError(errors.read_text() or f"exit status {code}")
