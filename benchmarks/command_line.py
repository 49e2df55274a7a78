"""``otmerge benchmark``: methods, seeds and label fractions in, a JSON per cell, a table and plots out."""

import os
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "benchmark", help="compare methods over seeds; finished cells are not run again"
    )
    parser.add_argument("--suite", default="easy-vqa", help="which suite (default %(default)s)")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods by name (default: all; see --list)")
    parser.add_argument("--seeds", type=int, help="how many (default 3; reduced: 2)")
    parser.add_argument(
        "--label-fractions", nargs="+", type=float, default=[1.0], help="shares of labelled images (default 1)"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="choices that all cells share")
    parser.add_argument(
        "--sweep", nargs="+", default=[], metavar="NAME=V1,V2", help="axes, each varied by itself around the rest"
    )
    parser.add_argument("--reduced", action="store_true", help="few images and steps: a quarter of an hour at most")
    parser.add_argument("--output", type=Path, help="folder of results (default benchmarks/results/SUITE[-reduced])")
    parser.add_argument("--cache-dir", type=Path, default=Path("runs/features"), help="where features are kept")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and which are done")
    parser.add_argument("--list", action="store_true", help="list methods and choices with their defaults")
    return parser


def run(arguments: Namespace) -> int:
    """Run what is missing and write the report.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        ValueError: If a method, suite or choice is unknown.
    """
    from ..baselines import METHODS, Recipe
    from ..suites import grid, run_cells, write_report

    out = sys.stdout.write
    if arguments.list:
        out("methods: " + " ".join(METHODS) + "\n")
        out("".join(f"  {name}={value}\n" for name, value in Recipe().to_dict().items()))
        return 0
    settings = {name: Recipe.parse(name, text) for name, text in map(_split, arguments.set)}
    sweeps = {
        name: [Recipe.parse(name, part) for part in text.split(",")] for name, text in map(_split, arguments.sweep)
    }
    cells = grid(
        arguments.methods,
        arguments.seeds,
        arguments.label_fractions,
        settings,
        sweeps,
        arguments.reduced,
        arguments.suite,
    )
    name = arguments.suite + ("-reduced" if arguments.reduced else "")
    folder = arguments.output or Path("benchmarks/results") / name
    if arguments.dry_run:
        for cell in cells:
            state = "done" if (folder / "cells" / cell.file).is_file() else "to run"
            out(f"{state:7} {cell.file} labels={cell.recipe.label_fraction:g} seed={cell.recipe.seed}\n")
        return 0
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    ran, failed = run_cells(cells, folder, arguments.cache_dir)
    out(f"{len(cells) - len(ran) - len(failed)} cells were done already, {len(ran)} ran, {len(failed)} failed\n")
    for file, reason in failed.items():
        sys.stderr.write(f"{file}: {reason}\n")
    if len(failed) < len(cells):
        out("".join(f"wrote {path}\n" for path in write_report(folder)))
    return 1 if failed else 0


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ValueError(f"`{text}` is no choice; expected NAME=VALUE.")
    return name.replace("-", "_"), value
