"""The suite `forecast`: Recall@1 as `alignment.forecast` says it from n pairs, beside what n pairs then reach.

python -m benchmarks run forecast --data FOLDER   # photographs, their captions, emoji, easy-VQA
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument


SETS = (
    "flickr8k",
    "flickr8k-vit",
    "flickr8k-texts",
    "easy-vqa",
    "easy-vqa-lite1",
    "easy-vqa-lite2",
    "emoji",
    "emoji-texts",
)
PAIRS = (50, 100, 200, 500, 1000, 2000)


class ForecastSuite(Suite):
    """A cell is a data set and a draw of its pairs."""

    name = "forecast"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
        parser.add_argument("--draws", type=int, default=3)
        parser.add_argument("--pairs", type=int, nargs="+", default=list(PAIRS))

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        return [
            Cell(self.name, {"data": name, "pairs": sorted(arguments.pairs), "draw": draw})
            for draw in range(arguments.draws)
            for name in arguments.sets
        ]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['data']} draw {cell.choices['draw']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import silence_transformers
        from .forecast_cell import rows

        silence_transformers()
        return {"machine": machine(), "rows": rows(cell.choices, place)}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.forecast import markdown
        from ..report.write import write_table

        return [write_table(folder, markdown(records), "Recall forecast from few pairs, and measured")]


SUITE = ForecastSuite()
