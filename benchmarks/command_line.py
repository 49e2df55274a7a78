"""The command line: `python -m benchmarks list | run SUITE | report | cards`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .methods import METHODS
from .runner.cell import Place
from .runner.recipe import Recipe
from .runner.records import Records
from .suites import SUITES, get_suite


HERE = Path(__file__).parent
RESULTS = HERE / "results"
RUNS = HERE.parent / "runs"  # not tracked by git


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after `python -m benchmarks`; those of the process when None.

    Returns:
        Exit code: 0; 1 if a cell failed; 2 for bad input, which is said in one line.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser(words).parse_args(words)
    try:
        return int(parsed.command(parsed))
    except (ValueError, OSError, ImportError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sys.stderr.write(f"python -m benchmarks: error: {lines[0]}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("list", help="every suite, method and choice, a line each")
    show.set_defaults(command=show_everything)

    run = commands.add_parser("run", help="run a suite's cells; finished ones are not run again")
    suites = run.add_subparsers(required=True, metavar="SUITE", dest="suite")
    for name, about in SUITES.items():
        one = suites.add_parser(name, help=about, description=about, aliases=[name.replace("-", "_")])
        if {name, name.replace("-", "_")} & set(words):  # a suite's module is imported only if it is asked for
            suite = get_suite(name)
            suite.add_arguments(one)
            if not suite.has_threads:
                one.add_argument(
                    "--threads", type=int, help="of a cell's process (default: OMP_NUM_THREADS, else all)"
                )
        one.add_argument(
            "--output", type=Path, help="folder of results (default benchmarks/results/SUITE; trials: runs)"
        )
        one.add_argument(
            "--cache-dir", "--cache", type=Path, default=RUNS / "benchmarks", help="features, checkpoints, pictures"
        )
        one.add_argument("--again", action="store_true", help="run finished cells anew, too")
        one.add_argument("--dry-run", action="store_true", help="list the cells and which are done")
        one.set_defaults(command=run_suite)

    report = commands.add_parser("report", help="make tables and plots from finished cells; runs nothing")
    report.add_argument(
        "folders", nargs="*", type=Path, help="folders of results (default: all of benchmarks/results with cells)"
    )
    report.add_argument("--document", type=Path, help="Markdown file whose marked place gets the table")
    report.set_defaults(command=write_reports)

    cards = commands.add_parser("cards", help="make the model cards from committed results; runs nothing")
    cards.add_argument("--output", type=Path, default=HERE.parent / "model_cards", help="folder (default model_cards)")
    cards.set_defaults(command=write_model_cards)
    return parser


def show_everything(arguments: argparse.Namespace) -> int:
    """Print every suite, every method and every choice of a recipe in one line each; imports none of them."""
    lines = ["Suites: python -m benchmarks run SUITE"]
    lines += [f"  {name:20}{about}" for name, about in SUITES.items()]
    lines += ["", "Methods of easy-vqa: --methods METHOD ... (* minutes a cell, the others seconds)"]
    lines += [f"  {name:20}{method.about}{' *' if method.expensive else ''}" for name, method in METHODS.items()]
    lines += ["", "Choices of a recipe: --set NAME=VALUE, --sweep NAME=V1,V2"]
    lines += [f"  {f'{name}={default}':36}{about}" for name, default, about in Recipe.describe()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def run_suite(arguments: argparse.Namespace) -> int:
    """Run what is missing and write the report.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        ValueError: If an argument is out of range.
    """
    suite = get_suite(arguments.suite)
    cells = suite.cells(arguments)
    usual = RUNS / f"{suite.name}-trial" if suite.is_trial(arguments) else RESULTS / suite.name
    place = Place(arguments.output or usual, arguments.cache_dir)
    if arguments.dry_run:
        known = Records(place.results / "cells.jsonl").read()
        for cell in cells:
            sys.stdout.write(f"{'done' if cell.key in known else 'to run':7} {suite.label(cell)}\n")
        return 0
    from .report.write import write_report
    from .runner.run import run_cells

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not suite.has_threads and arguments.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # for the workers, which inherit it
    ran, failed = run_cells(suite, cells, place, again=arguments.again)
    done = len(cells) - len(ran) - len(failed)
    sys.stdout.write(f"{done} cells were done already, {len(ran)} ran, {len(failed)} failed\n")
    for label, reason in failed.items():
        sys.stderr.write(f"{label}: {reason}\n")
    if len(failed) < len(cells):
        sys.stdout.write("".join(f"wrote {path}\n" for path in write_report(place.results)))
    return 1 if failed else 0


def write_model_cards(arguments: argparse.Namespace) -> int:
    """Write the template and the cards of committed results.

    Raises:
        ValueError: If results are missing.
        ImportError: If an encoder's package is not installed.
    """
    from .report.cards import write_cards

    arguments.output.mkdir(parents=True, exist_ok=True)
    sys.stdout.write("".join(f"wrote {path}\n" for path in write_cards(RESULTS, arguments.output)))
    return 0


def write_reports(arguments: argparse.Namespace) -> int:
    """Write the reports of folders, without running anything.

    Raises:
        ValueError: If a folder holds no cells, or the document has no marks for it.
    """
    from .report.write import write_report

    folders = arguments.folders or sorted(path.parent for path in RESULTS.glob("*/cells.jsonl"))
    if not folders:
        raise ValueError(f"{RESULTS} holds no cells; run `python -m benchmarks run SUITE` first.")
    for folder in folders:
        sys.stdout.write("".join(f"wrote {path}\n" for path in write_report(folder, arguments.document)))
    return 0
