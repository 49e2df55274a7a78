"""`otmerge evaluate`: a saved merge and questions with answers in, how good it is and where it errs out."""

import json
from argparse import ArgumentParser, BooleanOptionalAction, Namespace, _SubParsersAction
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from ..analysis import evaluate_merge, save_mistakes
from ..data import load_questions, load_rows
from ..data.questions import Questions
from ._arguments import add_question_arguments, positive, question_options, source_digest
from ._loading import load_answering
from ._logging import show_features_only


_ALL = "all"


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "evaluate",
        help="score a saved merge on questions, by kind, with its worst mistakes",
        description="Score a saved merge on one part of a table of questions, divided as otmerge train divides it, or "
        "on all of it: by question type and answer type where the table has them, by answer; print what is taken for "
        "what, and draw the most confident mistakes.",
    )
    add_question_arguments(parser, vocabulary=False)
    add = parser.add_argument
    add("--model", required=True, help="folder or Hub name of the merge")
    add("--part", choices=("train", "validation", "test", _ALL), default="test", help="default %(default)s")
    add("--output", type=Path, help="folder for evaluation.json and mistakes.png (default: print only)")
    add("--gallery", action=BooleanOptionalAction, default=True, help="draw mistakes.png, which needs matplotlib")
    add("--cache-dir", type=Path, default=Path("runs/features"), help="where features are kept (default %(default)s)")
    add("--batch-size", type=positive, help="inputs per forward (default: as many as are fast)")
    return parser


def run(arguments: Namespace) -> int:
    """Print the evaluation; see [`evaluate_merge`] for what it raises."""
    show_features_only()
    datasets.disable_progress_bars()
    model, processor = load_answering(arguments.model)
    questions = _questions(arguments)
    print(f"{arguments.part}: {questions}")
    found = evaluate_merge(
        model,
        processor,
        questions,
        cache_dir=arguments.cache_dir,
        batch_size=arguments.batch_size,
        targets=arguments.targets,
    )
    print(f"\n{found}")
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "evaluation.json").write_text(json.dumps(found.to_dict(), indent=2) + "\n")
        written = "evaluation.json"
        if arguments.gallery and questions.several_images:
            print("mistakes.png is not drawn: rows are about several images")
        elif arguments.gallery and found.mistakes():
            save_mistakes(arguments.output / "mistakes.png", model, processor, questions, found)
            written += " and mistakes.png"
        print(f"\n{arguments.output}/: {written}")
    return 0


def _questions(arguments: Namespace) -> Questions:
    """The part that is asked for: of the data that the merge was trained on, as it was divided then."""
    options, names = question_options(arguments), ("normalize", "top", "seed")
    file, trained = Path(arguments.model) / "results.json", dict[str, Any]()
    if file.is_file():
        trained = json.loads(file.read_text()).get("settings", {}).get("reading", {})
    if trained.pop("data", None) == source_digest(arguments.data):
        given = {name: value for name, value in options.items() if value not in (None, False, 0)}
        if arguments.part == _ALL:
            return load_rows(arguments.data, **_without(trained | given, names))
        part: Questions = getattr(load_questions(arguments.data, **trained | given), arguments.part)
        return part
    options = _without(options, names)  # of the vocabulary and of what is held out: neither is made here
    if arguments.part != _ALL and not arguments.preset:
        try:
            return load_rows(arguments.data, part=arguments.part, **options)
        except ValueError as error:
            if not str(error).startswith("part:"):
                raise
            print(f"No {arguments.part} part, and not what the merge was trained on: all rows are scored.")
    return load_rows(arguments.data, **options)


def _without(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
