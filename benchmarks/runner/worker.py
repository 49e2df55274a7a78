"""The process of one cell: ``python -m otmerge_hf.suites.child WORK.json``; told by, and started from, the runner."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from ..baselines import Recipe
from ..features.shards import write_atomically
from .encoding import run_features


def main(work_file: str) -> None:
    """Do the work that the file describes and write its JSON; progress goes to standard output, a share a line."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.basicConfig(level=logging.WARNING)
    work = json.loads(Path(work_file).read_text())
    recipe, cache_dir = Recipe(**work["recipe"]), Path(work["cache_dir"])
    if work["method"] is None:
        result = run_features(recipe, cache_dir)
    else:
        from .cell import Cell, run_cell  # not for encoding, whose memory is measured without Trainer

        features = json.loads(Path(work["features"]).read_text())
        cell = Cell(work["method"], recipe, work["suite"])
        result = run_cell(cell, features, cache_dir, _tell, Path(work["checkpoints"]))
    write_json(Path(work["output"]), result)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def _tell(share: float, last: list[int] = [-1]) -> None:  # noqa: B006 -- remembers what was told
    percent = int(100 * share)
    if percent != last[0]:
        last[0] = percent
        sys.stdout.write(f"{percent}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
