"""`otmerge check`: questions about images in, every mistake in them with file and line out, before any work."""

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction

import datasets

from ..data import check_questions
from ._arguments import add_question_arguments, question_options
from ._logging import show_features_only


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "check",
        help="look for mistakes in a table of questions about images",
        description="Read a table of questions (or classes) and every image that it names; print splits, columns, "
        "answers, and every bad row with file and line. The exit code is 1 if there are bad rows that are not "
        "skipped, 2 if the data cannot be read.",
    )
    add_question_arguments(parser)
    return parser


def run(arguments: Namespace) -> int:
    """Print the report; see [`check_questions`] for what it raises."""
    show_features_only()
    datasets.disable_progress_bars()
    options = question_options(arguments)
    skip = options.pop("skip_bad")
    report = check_questions(arguments.data, **options)
    print(report)
    if report.problem:
        sys.stderr.write(f"otmerge check: error: without the bad rows, {report.problem}\n")
    if report.bad and skip and not report.problem:
        print("They are left out.")
        return 0
    return 1 if report.bad else 0
