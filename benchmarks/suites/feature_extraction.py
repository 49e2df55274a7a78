"""The suite `feature-extraction`: `features.encode` against a bare loop over the same encoder.

    python -m benchmarks run feature-extraction --data FOLDER  # Flickr8k's photographs and captions
    python -m benchmarks run feature-extraction                # easy-VQA's, pictures upscaled to 500 x 375
    python -m benchmarks run feature-extraction --quick        # few, one thread, into runs/

Texts: MiniLM-L6; the loop sorts them by length and takes 32 at a time. Photographs: EfficientNet-Lite0 at 224 pixels;
the loop opens and prepares them, and takes 8 at a time in `channels_last`. Neither loop checks, hashes or keeps
anything. Beside it: the same loop in batches of the size that `encode` takes, and the encoder on inputs that are
ready. Each has a process of its own, and they take turns: what else the machine does falls on all, and the memory that
one has freed does not help another.
"""

import itertools
import os
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument


ROUNDS = 5
BAR = 1.15
COUNTS = {"texts": 400, "photographs": 200}
QUICK = {"texts": 64, "photographs": 16}
EASY_VQA = {"texts": 250}  # it has hardly more distinct ones


class FeatureExtraction(Suite):
    """A cell is a kind of input, where it comes from, how many, and a number of threads."""

    name = "feature-extraction"
    has_threads = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--quick", action="store_true", help="few inputs, one thread, one round")
        parser.add_argument("--sides", nargs="+", default=list(COUNTS), help=f"of {', '.join(COUNTS)}")
        parser.add_argument("--threads", nargs="+", type=int, help="default 1 2; quick: 1")
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns that medians are taken over")

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.quick)

    def cells(self, arguments: Namespace) -> list[Cell]:
        threads = arguments.threads or ([1] if arguments.quick else [1, 2])
        for name, least in (("threads", min(threads)), ("rounds", arguments.rounds)):
            if least < 1:
                raise ValueError(f"`{name}` is {least}; expected at least 1.")
        for side in arguments.sides:
            if side not in COUNTS:
                raise ValueError(f"`sides` has {side!r}; expected some of {', '.join(COUNTS)}.")
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        folder = Path(os.environ[VARIABLE]) / "flickr8k" if os.environ.get(VARIABLE) else None
        source = "flickr8k" if folder is not None and folder.is_dir() else "easy-vqa"
        rounds = 1 if arguments.quick else arguments.rounds
        more = {} if rounds == ROUNDS else {"rounds": rounds}
        counts = QUICK if arguments.quick else COUNTS | (EASY_VQA if source == "easy-vqa" else {})
        return [
            Cell(self.name, {"inputs": side, "source": source, "count": counts[side], "threads": count} | more)
            for count, side in itertools.product(threads, arguments.sides)
        ]

    def label(self, cell: Cell) -> str:
        choices = cell.choices
        return f"{choices['count']} {choices['inputs']} of {choices['source']}, threads {choices['threads']}"

    def environment(self, cell: Cell) -> dict[str, str]:
        # threads that wait sleep: otherwise the CPU seconds of two threads on a busy machine are mostly of waiting
        return {"OMP_NUM_THREADS": str(cell.choices["threads"]), "OMP_WAIT_POLICY": "PASSIVE"}

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine, processor
        from .feature_extraction_timing import compare

        choices = cell.choices
        before = processor()
        turns = compare(
            choices["inputs"],
            choices["source"],
            choices["count"],
            choices.get("rounds", ROUNDS),
            place.cache / "feature-extraction",
            place.report_progress,
        )
        return {"machine": machine(**before), "turns": turns}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.write import write_table

        return [write_table(folder, _markdown(records), "Feature extraction and a bare loop")]


def _markdown(records: Sequence[Record]) -> str:
    def order(record: Record) -> tuple:
        settings = record["settings"]
        return settings["source"] != "flickr8k", settings["inputs"] != "texts", settings["threads"]

    lines = [
        "Medians over rounds in which all take turns; a ratio is the median of the rounds' own ratios, encode / loop. "
        "CPU seconds are of all threads, user and system; threads that wait sleep (`OMP_WAIT_POLICY=PASSIVE`).",
        "",
        "| inputs | threads | rounds | encode, CPU s | bare loop, CPU s | ratio, CPU | ratio, wall "
        "| ratio to the loop in encode's batches, CPU | ratio to the encoder on ready inputs, CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    records, verdicts = sorted(records, key=order), []
    for record in records:
        settings, turns = record["settings"], record["turns"]
        ours, bare = (statistics.median(turn[name]["cpu"] for turn in turns) for name in ("encode", "bare"))
        ratios = [
            _ratio(turns, *pair) for pair in (("bare", "cpu"), ("bare", "wall"), ("same", "cpu"), ("ready", "cpu"))
        ]
        shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        what = f"{settings['count']} {settings['inputs']}, {settings['source']}"
        lines.append(f"| {what} | {settings['threads']} | {len(turns)} | {ours:.2f} | {bare:.2f} | {shown} |")
        verdicts.append(ratios[0] <= BAR)
    loads = [load for record in records for load in record["machine"]["load"][:1]]
    machine = records[0]["machine"]
    lines += [
        "",
        f"Bar: at most {BAR} times the bare loop's CPU seconds: met in {sum(verdicts)} of {len(verdicts)} rows. "
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}; load when a cell began: "
        f"{min(loads):.1f} to {max(loads):.1f}.",
    ]
    return "\n".join(lines) + "\n"


def _ratio(turns: Sequence[Record], other: str, clock: str) -> float:
    return statistics.median(turn["encode"][clock] / turn[other][clock] for turn in turns)


SUITE = FeatureExtraction()
