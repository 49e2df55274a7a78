"""The suite `preservation`: what is left of each encoder's own abilities after an adapter and back.

    python -m benchmarks run preservation --data FOLDER

On photographs of Flickr8k: EfficientNet-Lite0's own ImageNet classifier, on the features as they come back from the
shared space, against the same classifier on the features themselves; MiniLM-L6's sentence similarities likewise; both
beside retrieval, which is what the adapters are for. On easy-VQA: answers by the nearest statement.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument, data_folder


SEEDS = 3
PARTS = ("flickr8k", "esnlive_f8k", "easy-vqa")
# adapter, shared_dim, scale of what is kept beside the alignment, weight of the reconstruction term
CLOSED: list[tuple[str, int, float | None, float]] = [
    *(("pca", width, None, 0.0) for width in (128, 384)),
    *(("cca", width, None, 0.0) for width in (64, 128, 384)),
    *(("cca", 128, scale, 0.0) for scale in (1.0, 0.1, 0.01)),
    ("procrustes", 384, None, 0.0),
    ("procrustes", 384, 1.0, 0.0),
]
TRAINED: list[tuple[str, int, float | None, float]] = [
    ("linear", 128, None, 0.0),
    ("linear", 128, 0.01, 0.0),
    *(("mlp", 128, None, weight) for weight in (0.0, 1.0, 10.0)),
    ("mlp", 384, None, 1.0),
    ("coupling", 128, 1.0, 0.0),
    ("coupling", 128, 0.01, 0.0),
]
# adapter, width of the shared space, width that is read, scale
STATEMENTS: list[tuple[str, int, int, float]] = [
    ("mlp", 128, 128, 1.0),
    ("square", 384, 128, 0.01),
    ("square", 384, 128, 1.0),
    ("beside", 512, 128, 0.01),
]


class Preservation(Suite):
    """A cell is an adapter, its settings and a seed, on one data set."""

    name = "preservation"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        names = ("adapter", "shared_dim", "scale", "reconstruction_weight")
        rows: list[dict[str, Any]] = []
        for part in PARTS[:2]:
            if part in arguments.parts and os.environ.get(VARIABLE):  # without the photographs it is left out
                # a seed draws the labelled photographs kept for validation, too
                once = CLOSED if part == "flickr8k" else []
                rows += [dict(zip(names, row, strict=True), data=part, seed=0) for row in once]
                rows += [
                    dict(zip(names, row, strict=True), data=part, seed=seed)
                    for seed in range(SEEDS)
                    for row in (TRAINED if once else [*CLOSED, *TRAINED])
                ]
        if "easy-vqa" in arguments.parts:
            names = ("adapter", "shared_dim", "read", "scale")
            rows += [
                dict(zip(names, row, strict=True), data="easy-vqa", seed=seed)
                for seed in range(SEEDS)
                for row in STATEMENTS
            ]
        return [Cell(self.name, row) for row in rows]

    def label(self, cell: Cell) -> str:
        return " ".join(f"{name}={value}" for name, value in cell.choices.items())

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import silence_transformers
        from . import preservation_entailment, preservation_flickr8k, preservation_statements

        silence_transformers()
        if cell.choices["data"] == "easy-vqa":
            found = preservation_statements.measure(cell.choices, place)
        else:
            part = preservation_flickr8k if cell.choices["data"] == "flickr8k" else preservation_entailment
            found = part.measure(cell.choices, data_folder(), place.cache)
        return {"machine": machine()} | found

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.preservation import by_row, markdown
        from ..report.trade_off import draw_entailment, draw_trade_off
        from ..report.write import write_table

        table = write_table(folder, markdown(records), "What adapters keep")
        found, plots = by_row(records), []
        if rows := found["flickr8k"]:
            plots.append(draw_trade_off(rows, folder / "trade-off.png"))
        if rows := found["esnlive_f8k"]:
            plots.append(draw_entailment(rows, folder / "entailment.png"))
        return [table, *plots]


SUITE = Preservation()
