"""The suite `speech`: captions of Flickr8k, spoken by espeak-ng, find their written form among 1,000.

    python -m benchmarks run speech --data FOLDER

Whisper-base's encoder (extra `whisper`) and MiniLM-L6, both frozen. Test sentences and the voice that speaks them
occur neither in training nor in validation. `espeak-ng` is a program: `apt-get install espeak-ng`, say.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument


PAIRS = (500, 1000, 2000, 5000)
CLIPS = 300  # heard in 30 s too, which takes five times as long


class Speech(Suite):
    """A cell is a number of training pairs and a draw of them."""

    name = "speech"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument(
            "--pairs", type=int, nargs="+", default=list(PAIRS), help="to train on (default %(default)s)"
        )
        parser.add_argument("--draws", type=int, default=3)

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        return [
            *(
                Cell(self.name, {"pairs": pairs, "draw": draw})
                for pairs in sorted(arguments.pairs)
                for draw in range(arguments.draws)
            ),
            Cell(self.name, {"clips": CLIPS, "window_pairs": max(arguments.pairs)}),
        ]

    def label(self, cell: Cell) -> str:
        if "clips" in cell.choices:
            return f"{cell.choices['clips']} clips in a window of 30 s"
        return f"{cell.choices['pairs']} pairs, draw {cell.choices['draw']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import silence_transformers
        from .speech_cell import compare_windows, run_cell

        silence_transformers()
        measure = compare_windows if "clips" in cell.choices else run_cell
        return {"machine": machine()} | measure(cell.choices, place)

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.speech import markdown
        from ..report.write import write_table

        return [write_table(folder, markdown(records), "Spoken captions find their written form")]


SUITE = Speech()
