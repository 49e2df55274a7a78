"""The suite `scaling`: two ranks that share `features.encode` against one process, and a store of ten million rows.

    python -m benchmarks run scaling --data FOLDER  # Flickr8k's photographs and captions
    python -m benchmarks run scaling                # easy-VQA's, pictures upscaled to 500 x 375
    python -m benchmarks run scaling --quick        # few inputs, one round, 10,000 rows, into runs/

Ranks: one process, then two, in turns, each of one thread and already warm; the stores have to be the same bytes.
Lookup: a store of sparse files, which have their full size and hold next to nothing, is opened, and batches of rows
drawn at random are read: what is timed is finding them, not the disk.
"""

import os
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument


ROUNDS = 3
BAR = 1.7
FLAT = 2.0
COUNTS = {"texts": 800, "photographs": 120}
QUICK = {"texts": 64, "photographs": 16}
EASY_VQA = {"texts": 250}  # it has hardly more distinct ones
ROWS = (100_000, 1_000_000, 10_000_000)  # the smallest has more files already than are kept open


class Scaling(Suite):
    """A cell is a kind of input that ranks share, or a number of rows of a store."""

    name = "scaling"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--quick", action="store_true", help="few inputs, one round, 10,000 rows")
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns that medians are taken over")
        parser.add_argument("--rows", nargs="+", type=int, help="rows of the stores (default 10^5 10^6 10^7)")

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.quick)

    def cells(self, arguments: Namespace) -> list[Cell]:
        rows = arguments.rows or ([10_000] if arguments.quick else ROWS)
        for name, least in (("rounds", arguments.rounds), ("rows", min(rows))):
            if least < 1:
                raise ValueError(f"`{name}` is {least}; expected at least 1.")
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        folder = Path(os.environ[VARIABLE]) / "flickr8k" if os.environ.get(VARIABLE) else None
        source = "flickr8k" if folder is not None and folder.is_dir() else "easy-vqa"
        counts = QUICK if arguments.quick else COUNTS | (EASY_VQA if source == "easy-vqa" else {})
        more = {"source": source, "rounds": 1 if arguments.quick else arguments.rounds}
        return [
            *(Cell(self.name, {"rows": count}) for count in rows),
            *(Cell(self.name, {"ranks": 2, "inputs": side, "count": count} | more) for side, count in counts.items()),
        ]

    def label(self, cell: Cell) -> str:
        choices = cell.choices
        if "rows" in choices:
            return f"lookup among {choices['rows']:,} rows"
        return f"2 ranks, {choices['count']} {choices['inputs']} of {choices['source']}"

    def environment(self, cell: Cell) -> dict[str, str]:
        return {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine, processor
        from .scaling_timing import compare_ranks, time_lookup

        choices, before = cell.choices, processor()
        if "rows" in choices:
            return {"machine": machine(**before), "lookup": time_lookup(choices["rows"], place.cache)}
        turns = compare_ranks(
            choices["inputs"],
            choices["source"],
            choices["count"],
            choices["rounds"],
            place.cache / "scaling",
            place.report_progress,
        )
        return {"machine": machine(**before), "turns": turns}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        return [write_table(folder, _markdown(records), "Scaling: ranks, and rows of a store")]


def _markdown(records: Sequence[Record]) -> str:
    shared = [record for record in records if "turns" in record]
    stores = sorted((record for record in records if "lookup" in record), key=lambda r: r["settings"]["rows"])
    lines = []
    if shared:
        lines += [
            "Ratios are of each round, then their median. Wall: seconds of one process over those of two ranks. "
            "Slower rank: CPU seconds of one process over those of the rank that took more, roughly what the clock "
            "would say on two cores with nothing else to do. CPU: seconds of both ranks over those of one process.",
            "",
            "| inputs | rounds | one process, s | two ranks, s | wall, by round | wall | slower rank | CPU | load |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    met = []
    for record in shared:
        settings, turns = record["settings"], record["turns"]
        ratios = [turn["one"]["wall"] / turn["two"]["wall"] for turn in turns]
        ratio = statistics.median(ratios)
        met.append(ratio >= BAR)
        seconds = (statistics.median(turn[arm]["wall"] for turn in turns) for arm in ("one", "two"))
        slower = statistics.median(turn["one"]["slowest"] / turn["two"]["slowest"] for turn in turns)
        cpu = statistics.median(turn["two"]["cpu"] / turn["one"]["cpu"] for turn in turns)
        cells = [f"{settings['count']} {settings['inputs']}, {settings['source']}", str(len(turns))]
        cells += [f"{value:.1f}" for value in seconds]
        cells += [", ".join(f"{value:.2f}" for value in ratios), f"{ratio:.2f}", f"{slower:.2f}", f"{cpu:.2f}"]
        cells += [f"{record['machine']['load'][0]:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if shared:
        machine = shared[0]["machine"]
        verdict = f"Bar: at least {BAR} times as fast by the clock: met in {sum(met)} of {len(met)} rows."
        lines += ["", f"{verdict} {machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}.", ""]
    if stores:
        lines += [
            "A batch is 64 rows drawn at random, each of 20 tokens of 384 float16, out of sparse files; CPU "
            "milliseconds, mean of 200. At most 64 files are open at once.",
            "",
            "| rows | files | size, GB | on disk, MB | open, CPU s | memory, MiB | a batch, ms | over the first row |",
            "|---|---|---|---|---|---|---|---|",
        ]
    for record in stores:
        found, first = record["lookup"], stores[0]["lookup"]
        cells = [f"{record['settings']['rows']:,}", f"{found['files']:,}", f"{found['bytes'] / 1e9:.1f}"]
        cells += [f"{found['disk'] / 1e6:.0f}", f"{found['open']:.2f}", f"{found['memory']:.0f}"]
        cells += [f"{found['batch'] * 1e3:.2f}", f"{found['batch'] / first['batch']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if len(stores) > 1:
        flat = stores[-1]["lookup"]["batch"] <= FLAT * stores[0]["lookup"]["batch"]
        times = stores[-1]["settings"]["rows"] // stores[0]["settings"]["rows"]
        verdict = "met" if flat else "not met"
        lines += ["", f"Bar: a batch at most {FLAT:.0f} times as long at {times} times the rows: {verdict}."]
    return "\n".join(lines) + "\n"


SUITE = Scaling()
