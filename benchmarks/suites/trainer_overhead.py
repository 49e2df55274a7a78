"""The suite `trainer-overhead`: an epoch on cached features, the stock Trainer against a bare loop.

    python -m benchmarks run trainer-overhead            # 38,575 rows, three rounds: several minutes
    python -m benchmarks run trainer-overhead --quick    # 2,560 rows, into runs/: under a minute

The two take turns, and each round's ratio is taken by itself, so that what else the machine does falls on both. The
bare loop holds every feature in memory as one padded tensor, calls standardiser, adapters, fuser and head by hand, and
makes the same AdamW steps with the same clipping and schedule; it has neither checks nor logs nor similarities. The
features are random, in the shapes of the demonstration's.
"""

import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite


ROUNDS = 3
BAR = 1.5


class TrainerOverhead(Suite):
    """One cell."""

    name = "trainer-overhead"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quick", action="store_true", help="2,560 rows, three rounds")
        parser.add_argument("--rows", type=int, default=38_575, help="rows of an epoch")
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns")
        parser.add_argument("--batch-size", type=int, default=128)

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.quick)

    def cells(self, arguments: Namespace) -> list[Cell]:
        for name in ("rows", "rounds", "batch_size"):
            if getattr(arguments, name) < 1:
                raise ValueError(f"`{name}` is {getattr(arguments, name)}; expected at least 1.")
        rows = 2560 if arguments.quick else arguments.rows
        more = {} if arguments.rounds == ROUNDS else {"rounds": arguments.rounds}
        return [Cell(self.name, {"rows": rows, "batch_size": arguments.batch_size} | more)]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['rows']:,} rows, batches of {cell.choices['batch_size']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import silence_transformers
        from .trainer_overhead_timing import compare

        silence_transformers()
        choices = cell.choices
        rounds = choices.get("rounds", ROUNDS)
        found = compare(choices["rows"], choices["batch_size"], rounds, place.report_progress)
        return {"machine": machine()} | found

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        return [write_table(folder, _markdown(records), "An epoch under Trainer and by hand")]


def _markdown(records: Sequence[Record]) -> str:
    lines = [
        "Medians over rounds in which the two take turns; the ratio is that of each round.",
        "",
        "| rows | batch size | rounds | Trainer, s | bare loop, s | ratio, wall time | ratio, CPU time |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        settings, turns = record["settings"], record["turns"]
        trainer, bare = (statistics.median(turn[name]["wall"] for turn in turns) for name in ("trainer", "bare"))
        lines.append(
            f"| {settings['rows']:,} | {settings['batch_size']} | {len(turns)} | {trainer:.2f} | {bare:.2f} "
            f"| {record['wall_ratio']:.2f} | {record['cpu_ratio']:.2f} |"
        )
    verdict = "met" if all(record["wall_ratio"] <= BAR for record in records) else "missed"
    machines = sorted({", ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records})
    lines += ["", f"Bar: at most {BAR} times the bare loop's wall time: {verdict}. {'; '.join(machines)}."]
    return "\n".join(lines) + "\n"


SUITE = TrainerOverhead()
