"""The suite `own-data`: `otmerge train`, as a user calls it, on tables of questions beside folders of images.

    python -m benchmarks run own-data --data FOLDER   # e-SNLI-VE on Flickr8k, DAQUAR, and easy-VQA
    python -m benchmarks run own-data                 # easy-VQA alone, written out as pictures and two tables

Nothing is passed but what the data set needs: the tables' names, the splits, and captions to align on where there
are some. A seed draws validation, alignment's choices and initial weights. Features are encoded once for all seeds,
in a process of their own.
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from ..runner.cell import Cell, Place, Record, Suite
from ..tasks.folder import VARIABLE, add_data_argument


EASY = "easy-vqa"
ENCODERS = ("--context", "efficientnet-lite0", "--query", "minilm-l6")
#: Data set -> the arguments of `otmerge train` beside the encoders; relative names are of the folder of data sets.
RUNS: dict[str, tuple[str, ...]] = {
    EASY: ("--data", EASY, "--image-size", "64", "--context-tokens", "11"),
    "esnlive_f8k": (
        *("--data", "esnlive_f8k", "--train-split", "validation", "--test-split", "test"),
        *("--captions", "flickr8k"),
    ),
    "daquar": ("--data", "daquar", "--preset", "daquar", "--captions", "flickr8k"),
}


class OwnData(Suite):
    """A cell is a data set, the words of its command, and a seed."""

    name = "own-data"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--sets", nargs="+", help=f"of {', '.join(RUNS)}; default: those that are there")
        parser.add_argument("--seeds", type=int, default=3)

    def cells(self, arguments: Namespace) -> list[Cell]:
        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        root = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
        there = [name for name in RUNS if name == EASY or (root is not None and (root / name).is_dir())]
        for name in arguments.sets or []:
            if name not in there:
                raise ValueError(f"`sets` has {name!r}; expected some of {', '.join(there)}, which are there.")
        return [
            Cell(self.name, {"data": name, "command": [*ENCODERS, *RUNS[name]], "seed": seed})
            for seed in range(arguments.seeds)
            for name in arguments.sets or there
        ]

    def label(self, cell: Cell) -> str:
        return f"{cell.choices['data']} seed {cell.choices['seed']}"

    def prepare(self, cell: Cell, place: Place, work: Callable[..., None]) -> None:
        folder = place.cache / self.name / EASY
        if cell.choices["data"] == EASY and not (folder / "questions_test.csv").is_file():
            work(f"{__name__}:write_easy_vqa", place.cache / self.name / "written.jsonl", folder=str(folder))

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.machine import machine, processor

        before, choices = processor(), cell.choices
        is_easy = choices["data"] == EASY
        root = place.cache / self.name if is_easy else Path(os.environ[VARIABLE])
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "merge"
            words = list(choices["command"])
            for flag in {"--data", "--captions"} & set(words):
                place_of = words.index(flag) + 1
                words[place_of] = str(root / words[place_of])
            more = ["--seed", str(choices["seed"]), "--output", str(output)]
            more += ["--cache-dir", str(place.cache / self.name / "features")]
            subprocess.run([sys.executable, "-m", "otmerge_hf.cli", "train", *words, *more], check=True)
            found = json.loads((output / "results.json").read_text())
        return {"machine": machine(**before), "result": found}

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.own_data import markdown
        from ..report.write import write_table

        return [write_table(folder, markdown(records), "`otmerge train` on tables and folders")]


def write_easy_vqa(folder: str) -> Record:
    """Write easy-VQA as a user would have it: numbered PNGs, and a CSV for each split."""
    import csv
    import shutil

    from otmerge_hf.data import image_paths, load_easy_vqa

    root = Path(folder)
    for split in ("train", "test"):
        (root / split).mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(image_paths(split)):
            shutil.copyfile(path, root / split / f"{number}.png")
        rows = load_easy_vqa(split)
        with (root / f"questions_{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "question", "answer"])
            found = zip(rows["image_id"], rows["question"], rows["answer"], strict=True)
            writer.writerows([f"{split}/{number}.png", question, answer] for number, question, answer in found)
    return {"key": EASY, "settings": {"folder": EASY}}


SUITE = OwnData()
