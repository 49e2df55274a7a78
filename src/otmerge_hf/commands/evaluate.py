"""`otmerge evaluate`: a saved merge and questions with answers in, how good it is and where it errs out."""

import json
from argparse import ArgumentParser, BooleanOptionalAction, Namespace, _SubParsersAction
from pathlib import Path

import datasets

from ..analysis import evaluate_merge, save_mistakes
from ._arguments import add_question_arguments, positive
from ._loading import load_answering
from ._logging import show_features_only
from ._reading import ALL, load_part


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
    add("--part", choices=("train", "validation", "test", ALL), default="test", help="default %(default)s")
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
    questions = load_part(arguments)
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
