"""`otmerge train`: two encoders and questions about images in, a saved merge that answers them out."""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path
from typing import Any

import datasets

from ..alignment.choice import FIT_NAMES
from ..data import load_questions, load_rows
from ..training import plan_merge, train_merge
from ._arguments import (
    above_zero,
    add_caption_arguments,
    add_encoder_arguments,
    add_question_arguments,
    check_encoders,
    check_output,
    positive,
    question_options,
    source_digest,
)
from ._logging import show_features_only
from ._reading import load_captions


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "train",
        help="teach a merge to answer questions about images, or to classify them",
        description="Encode every image and question once, align the encoders on captions where there are some, learn "
        "the answers as far as validation gains, save the merge, and score it on the test part beside what can be "
        "answered without looking. What is finished is kept: the same command goes on after an interruption.",
    )
    add_encoder_arguments(parser, several=False)
    add_question_arguments(parser)
    add = parser.add_argument
    add("--output", required=True, type=Path, help="folder for the model, its processor and results.json")
    add("--captions", metavar="SOURCE", help="images with captions, as --pairs of otmerge align, to align on")
    add_caption_arguments(parser, "--captions-")
    add("--captions-filter", action="append", default=[], metavar="COLUMN!=VALUE", help="use these rows; repeatable")
    add(
        "--unlabelled",
        metavar="SOURCE",
        help="questions without answers, which the aligned encoders answer; needs --captions",
    )
    add("--lora", type=positive, metavar="RANK", help="let both encoders learn low-rank updates: slower by far")
    add("--balanced", action="store_true", help="let rare answers count as much as frequent ones")
    add("--fit", choices=FIT_NAMES, default="auto", help="how to align; auto tries what suits (default %(default)s)")
    add("--shared-dim", type=positive, help="width of the shared space (default: the fit's choice, else 128)")
    add("--epochs", type=above_zero, default=4.0, help="passes over many questions, at most (default %(default)s)")
    add(
        "--least-steps",
        type=positive,
        default=300,
        help="steps to plan where --epochs of few questions make fewer (default %(default)s)",
    )
    add("--train-batch-size", type=positive, default=128, help="questions a step (default %(default)s)")
    add("--learning-rate", type=above_zero, default=1e-3, help="of adapters, fuser and head (default %(default)s)")
    together = "of one image that a batch holds at most: above 1 the image's part runs once for them, which is faster"
    add("--questions-per-context", type=positive, default=1, metavar="N", help=f"questions {together} (default 1)")
    add("--dry-run", action="store_true", help="print what would be done, with counts and estimated times, and stop")
    return parser


def run(arguments: Namespace) -> int:
    """Train, save, and print what came of it; see [`train_merge`] for what it raises."""
    show_features_only("otmerge_hf.training")
    datasets.disable_progress_bars()
    check_output(arguments.output)
    check_encoders(arguments)
    questions = load_questions(arguments.data, **question_options(arguments))
    print(questions)
    if captions := load_captions(arguments, "captions"):
        print("\n".join(f"captions, {name}: {split}" for name, split in captions.items()))
    reading = question_options(arguments)
    unlabelled = None
    if arguments.unlabelled:
        kept = ("image_column", "question_column", "image_folder", "delimiter", "skip_bad")
        unlabelled = load_rows(arguments.unlabelled, **{name: reading[name] for name in kept if name in reading})
        print(f"unlabelled: {unlabelled}")
    names = ("context_tokens", "query_tokens", "image_size", "fit", "shared_dim", "epochs", "least_steps", "cache_dir")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in (*names, "learning_rate", "device", "seed")}
    options["questions_per_context"] = arguments.questions_per_context
    options |= {"batch_size": arguments.train_batch_size, "encode_batch_size": arguments.batch_size}
    options |= {"captions": captions, "unlabelled": unlabelled, "lora": arguments.lora, "balanced": arguments.balanced}
    encoders = arguments.context, arguments.query
    if arguments.dry_run:
        print(plan_merge(*encoders, questions, **options))
        return 0
    options |= {"command": arguments.started_by, "reading": reading | {"data": source_digest(arguments.data)}}
    result = train_merge(*encoders, questions, arguments.output, **options)
    print(f"\n{result}\nModel and results: {arguments.output}/")
    return 0
