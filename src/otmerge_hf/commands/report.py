"""``otmerge report``: a folder of results in, its table, plots and document out; nothing is run."""

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser("report", help="make tables and plots from a benchmark's JSON")
    parser.add_argument(
        "folders", nargs="*", type=Path, help="folders of results (default: all of benchmarks/results with cells)"
    )
    parser.add_argument("--document", type=Path, help="Markdown file whose marked place gets the table")
    return parser


def run(arguments: Namespace) -> int:
    """Write the reports.

    Raises:
        ValueError: If a folder holds no results, or the document has no marks for it.
    """
    from ..suites import write_report

    found = sorted({path.parents[1] for path in Path("benchmarks/results").glob("*/cells/*.json")})
    folders = arguments.folders or found
    if not folders:
        raise ValueError("benchmarks/results holds no results; run `otmerge benchmark` first.")
    for folder in folders:
        sys.stdout.write("".join(f"wrote {path}\n" for path in write_report(folder, arguments.document)))
    return 0
