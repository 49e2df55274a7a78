"""The suite `photographs`: visual entailment and questions about real photographs, from a folder of the user's.

    python -m benchmarks run photographs --data FOLDER --tasks esnlive_f8k daquar

Alignment is learned from captions of photographs that are not in the task; validation is a fifth of the training
photographs. What each task is, and where it comes from: `benchmarks/tasks/`.
"""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..methods import METHODS, check_method
from ..runner.cell import Cell, Place, Record, Suite
from ..tasks import FROM_FOLDER
from ..tasks.folder import VARIABLE, add_data_argument, data_folder


TASKS = ("esnlive_f8k", "daquar")
USUAL = ("most_frequent", "words_linear", "grown_words", "grown_unaligned", "grown")
# 7 x 7 tokens of a photograph of 224 pixels; the rest is chosen on validation, or for time
RECIPE: dict[str, Any] = {
    "image_size": 224,
    "context_tokens": "last_hidden_state",
    "shared_dim": 256,
    "batch_size": 64,
    "epochs": 4.0,
    "min_steps": 100,
    "learning_rate": 3e-4,
    "fuser_dropout": 0.3,
}


class Photographs(Suite):
    """A cell is a method on a task, a recipe and a seed."""

    name = "photographs"

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--tasks", nargs="+", default=list(TASKS), help=f"of {', '.join(FROM_FOLDER)}")
        parser.add_argument("--methods", nargs="+", default=list(USUAL), help="see `python -m benchmarks list`")
        parser.add_argument("--seeds", type=int, default=3)
        parser.add_argument("--label-fractions", type=float, nargs="+", default=[1.0])
        parser.add_argument("--epochs", type=float, help="of the fuser, or of encoders that train")
        parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="choices that all cells share")

    def cells(self, arguments: Namespace) -> list[Cell]:
        from ..runner.recipe import Recipe
        from .easy_vqa import parse_settings

        if arguments.data is not None:
            os.environ[VARIABLE] = str(arguments.data.resolve())  # for the workers, which inherit it
        for task in arguments.tasks:
            if task not in FROM_FOLDER or task == "flickr8k":
                raise ValueError(f"`task` is {task!r}; expected some of {', '.join(FROM_FOLDER)} but flickr8k.")
        for method in arguments.methods:
            check_method(method)
        more = parse_settings(arguments.set) | ({} if arguments.epochs is None else {"epochs": arguments.epochs})
        order = sorted(arguments.methods, key=lambda method: METHODS[method].expensive)
        return [
            Cell(self.name, {"task": task, "method": method, "recipe": recipe.to_dict()})
            for seed in range(arguments.seeds)
            for fraction in arguments.label_fractions
            for task in arguments.tasks
            for method in order
            for recipe in [Recipe(**(RECIPE | more | {"seed": seed, "label_fraction": fraction}))]
        ]

    def label(self, cell: Cell) -> str:
        recipe = cell.choices["recipe"]
        about = f"{cell.choices['task']} {recipe['context_encoder']} {cell.choices['method']}"
        return f"{about} {recipe['label_fraction']:.3g} seed {recipe['seed']}"

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.measure import silence_transformers
        from ..runner.recipe import Recipe
        from .photographs_cell import run_cell

        silence_transformers()
        choices = cell.choices
        data, cache = data_folder(), place.cache / "photographs"
        checkpoints = place.cache / "checkpoints" / cell.key
        return run_cell(
            choices["task"],
            choices["method"],
            Recipe(**choices["recipe"]),
            data,
            cache,
            place.report_progress,
            checkpoints,
        )

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.photographs import markdown
        from ..report.write import write_table

        return [write_table(folder, markdown(records), "Real photographs")]


SUITE = Photographs()
