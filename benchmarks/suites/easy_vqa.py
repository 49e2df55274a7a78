"""The suite `easy-vqa`: which cells there are (methods, label fractions, seeds, one axis varied at a time)."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..methods import METHODS, check_method
from ..runner.cell import Cell, Place, Record, Suite
from ..runner.recipe import Recipe
from ..runner.records import Records


# A quarter of an hour or less on one core: few images, few steps, the rows that the central question needs.
REDUCED = {
    "max_images": 400,
    "max_test_questions": 1000,
    "batch_size": 64,
    "epochs": 1.0,
    "min_steps": 60,
    "align_min_steps": 40,
    "max_steps": 60,
}
REDUCED_METHODS = ("most_frequent", "question_only", "no_alignment", "merged", "joint")
REDUCED_SEEDS = 2


def make_cell(method: str, recipe: Recipe) -> Cell:
    """One method on one recipe.

    Example:
        >>> make_cell("merged", Recipe()).key == make_cell("merged", Recipe(seed=1)).key
        False
    """
    return Cell("easy-vqa", {"method": method, "recipe": recipe.to_dict()})


def grid(
    methods: Sequence[str] | None = None,
    seeds: int | None = None,
    label_fractions: Sequence[float] = (1.0,),
    settings: Mapping[str, Any] | None = None,
    sweeps: Mapping[str, Sequence[Any]] | None = None,
    reduced: bool = False,
) -> list[Cell]:
    """List the cells, cheap methods first, whole seeds one after the other.

    Args:
        methods: Names; all (the reduced suite's) if None.
        seeds: 0 to seeds - 1; 3 (reduced: 2) if None.
        label_fractions: Of the training images.
        settings: Choices of the recipe that all cells share.
        sweeps: Axis -> values; each axis is varied by itself around `settings`.
        reduced: Start from the small recipe.

    Raises:
        ValueError: If a method or choice is unknown.

    Example:
        >>> cells = grid(["merged"], seeds=1, sweeps={"shared_dim": [64, 128], "epsilon": [0.1]})
        >>> [(cell.choices["recipe"]["shared_dim"], cell.choices["recipe"]["epsilon"]) for cell in cells]
        [(64, 0.05), (128, 0.05), (128, 0.1)]
    """
    methods = list(methods or (REDUCED_METHODS if reduced else METHODS))
    for name in methods:
        check_method(name)
    count = seeds if seeds is not None else REDUCED_SEEDS if reduced else 3
    if count < 1:
        raise ValueError(f"`seeds` is {count}; expected at least 1.")
    base: dict[str, Any] = (REDUCED if reduced else {}) | dict(settings or {})
    varied = [{axis: value} for axis, values in (sweeps or {}).items() for value in values] or [{}]
    cells = [
        make_cell(method, Recipe(**(base | change | {"seed": seed, "label_fraction": fraction})))
        for late in (False, True)
        for seed in range(count)
        for fraction in label_fractions
        for change in varied
        for method in methods
        if METHODS[method].expensive == late
    ]
    return list({cell.key: cell for cell in cells}.values())


class EasyVQA(Suite):
    """Methods over seeds and label fractions; the features of a pair of encoders are computed once for all cells."""

    name = "easy-vqa"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods by name (default: all)")
        parser.add_argument("--seeds", type=int, help="how many (default 3; reduced: 2)")
        parser.add_argument(
            "--label-fractions", nargs="+", type=float, default=[1.0], help="shares of labelled images (default 1)"
        )
        parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="choices that all cells share")
        parser.add_argument(
            "--sweep", nargs="+", default=[], metavar="NAME=V1,V2", help="axes, each varied by itself around the rest"
        )
        parser.add_argument(
            "--reduced", action="store_true", help="few images and steps: a quarter of an hour at most"
        )

    def is_trial(self, arguments: Namespace) -> bool:
        return bool(arguments.reduced)

    def cells(self, arguments: Namespace) -> list[Cell]:
        settings = parse_settings(arguments.set)
        sweeps = {
            name: [Recipe.parse(name, part) for part in text.split(",")] for name, text in map(_split, arguments.sweep)
        }
        return grid(arguments.methods, arguments.seeds, arguments.label_fractions, settings, sweeps, arguments.reduced)

    def label(self, cell: Cell) -> str:
        recipe = cell.choices["recipe"]
        return f"{cell.choices['method']} labels={recipe['label_fraction']:g} seed={recipe['seed']} {cell.key}"

    def prepare(self, cell: Cell, place: Place, work: Callable[..., None]) -> None:
        from .easy_vqa_cell import prepare_features

        prepare_features(Recipe(**cell.choices["recipe"]), place, work)

    def measure(self, cell: Cell, place: Place) -> Record:
        from ..runner.encoding import features_key
        from ..runner.measure import silence_transformers
        from ..runner.run import checkpoint_folder
        from .easy_vqa_cell import features_folder, run_cell

        silence_transformers()
        recipe = Recipe(**cell.choices["recipe"])
        features = Records(place.results / "features.jsonl").read()[features_key(recipe)]
        checkpoints = checkpoint_folder(place, cell)
        folder = features_folder(recipe, place)
        return run_cell(cell.choices["method"], recipe, features, folder, place.report_progress, checkpoints)

    def report(self, records: Sequence[Record], folder: Path) -> list[Path]:
        from ..report.plots import draw
        from ..report.summary import groups
        from ..report.table import markdown
        from ..report.write import write_table

        everything = groups(records)
        return [write_table(folder, markdown(records)), *(draw(everything, folder) if everything else [])]


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """Values of `--set NAME=VALUE ...`.

    Raises:
        ValueError: If one is not of that form, or is no choice of a recipe.

    Example:
        >>> parse_settings(["shared_dim=64"])
        {'shared_dim': 64}
    """
    return {name: Recipe.parse(name, text) for name, text in map(_split, given)}


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"`{text}` is no choice; expected NAME=VALUE.")
    return name.replace("-", "_"), value


SUITE = EasyVQA()
