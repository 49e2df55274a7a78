"""The suite `shared-contexts`: an epoch of questions about photographs, with and without contexts that are shared.

    python -m benchmarks run shared-contexts --data FOLDER

DAQUAR's training questions, 49 tokens of 1,280 numbers a photograph, on cached features: the fuser of
`grown_unaligned` under the stock Trainer. A turn trains both ways from the same weights; its ratio is that of the
seconds in the steps. Validation says whether less varied batches cost anything.
"""

import os
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument, data_folder


BAR = 2.0


class SharedContexts(Suite):
    """A cell is a seed: a turn of both."""

    name = "shared-contexts"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--seeds", type=int, default=3)
        parser.add_argument("--questions-per-context", type=int, default=16)

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())
        most = arguments.questions_per_context
        if most < 2:
            raise ValueError(f"`questions_per_context` is {most}; expected at least 2.")
        return [
            Cell(self.name, {"seed": seed, "questions_per_context": most, "epochs": 4})
            for seed in range(arguments.seeds)
        ]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['questions_per_context']} questions a context, seed {cell.choices['seed']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine
        from ..runner.measure import silence_transformers
        from .shared_contexts_timing import compare

        silence_transformers()
        cache = place.cache / "photographs"
        return {"machine": machine()} | compare(data_folder(), cache, place.report_progress, **cell.choices)

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        return [write_table(folder, _markdown(records), "Questions that share a photograph")]


def _markdown(records: Sequence[Record]) -> str:
    lines = [
        "DAQUAR, one word, batches of about 64 questions, four epochs; seconds are those of one epoch's steps; the "
        "ratio is that of each turn.",
        "",
        "| questions of a photograph together, at most | seed | photographs a batch, apart / together "
        "| CPU s apart | CPU s together | ratio, CPU | ratio, wall "
        "| validation loss apart / together | validation accuracy apart / together |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ratios_of: dict[int, list[float]] = {}
    for record in sorted(records, key=lambda one: (one["settings"]["questions_per_context"], one["settings"]["seed"])):
        most = record["settings"]["questions_per_context"]
        apart, together = record["apart"], record["together"]
        ratios = [apart[name] / together[name] for name in ("cpu", "wall")]
        ratios_of.setdefault(most, []).append(ratios[0])
        shown = [
            str(most),
            str(record["settings"]["seed"]),
            f"{apart['contexts']:.1f} / {together['contexts']:.1f}",
            f"{apart['cpu']:.1f}",
            f"{together['cpu']:.1f}",
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{apart['loss']:.3f} / {together['loss']:.3f}",
            f"{apart['accuracy']:.4f} / {together['accuracy']:.4f}",
        ]
        lines.append(f"| {' | '.join(shown)} |")
    medians = {most: statistics.median(ratios) for most, ratios in ratios_of.items()}
    machines = sorted({", ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records})
    told = ", ".join(
        f"{median:.2f} with {most} ({'met' if median >= BAR else 'missed'})" for most, median in medians.items()
    )
    lines += ["", f"Bar: {BAR:g} times as fast. Median by CPU: {told}. {'; '.join(machines)}."]
    return "\n".join(lines) + "\n"


SUITE = SharedContexts()
