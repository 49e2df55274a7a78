"""`otmerge align`: two encoders and image-caption pairs in, a merge that retrieves out."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace, _SubParsersAction
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from ..alignment import align_encoders
from ..alignment.choice import FIT_NAMES, check_fit_name
from ..data import load_images, load_pair_splits, load_texts
from ..training import refine_alignment
from ._arguments import (
    add_encoder_arguments,
    add_pair_arguments,
    check_encoders,
    check_output,
    pair_options,
    positive,
)
from ._logging import show_features_only


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "align",
        help="merge two encoders by a fit on image-caption pairs",
        description="Encode every image and caption once, report what the encoders share, try fits on the training "
        "pairs, take the best on validation, save the merge, and score it on test pairs.",
    )
    add_encoder_arguments(parser)
    add_pair_arguments(parser)
    add = parser.add_argument
    add("--output", required=True, type=Path, help="folder for the model, its processor and results.json")
    add("--fit", choices=FIT_NAMES, default="auto", help="auto tries all that suit the rows (default %(default)s)")
    add("--unpaired-images", metavar="SOURCE", help="folder of pictures or data set: images without captions")
    add("--unpaired-texts", metavar="SOURCE", help="text file or data set: texts without images")
    add("--shared-dim", type=positive, help="width of the shared space (default: chosen on validation)")
    add("--refit", action=BooleanOptionalAction, default=True, help="fit on train and validation after choosing")
    add("--refine", action="store_true", help="train on from the best fit, as far as validation gains")
    return parser


def run(arguments: Namespace) -> int:
    """Align, save, and print what came of it; see [`align_encoders`] for what it raises."""
    show_features_only()
    datasets.disable_progress_bars()
    unpaired = {name: getattr(arguments, name) for name in ("unpaired_images", "unpaired_texts")}
    check_output(arguments.output)
    check_encoders(arguments)
    check_fit_name(arguments.fit, **unpaired)  # before the data are read
    splits = load_pair_splits(arguments.pairs, **pair_options(arguments))
    print("\n".join(f"{name}: {split}" for name, split in splits.items()))
    images = load_images(arguments.unpaired_images) if arguments.unpaired_images else []
    texts = load_texts(arguments.unpaired_texts) if arguments.unpaired_texts else []
    if images or texts:
        print(f"unpaired: {len(images):,} images, {len(texts):,} texts")
    arguments.output.mkdir(parents=True, exist_ok=True)  # before the work, not after
    if (arguments.output / "results.json").is_file():
        print(f"{arguments.output} holds a merge already; the new one will take its place.")
    names = ("context_tokens", "query_tokens", "image_size", "fit", "shared_dim", "refit", "cache_dir", "batch_size")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in (*names, "device", "seed")}
    options |= {"unpaired_images": images, "unpaired_texts": texts}
    if arguments.refine:
        options["refine"] = partial(refine_alignment, output_dir=arguments.output, seed=arguments.seed)
    result = align_encoders(arguments.context, arguments.query, splits, **options)
    result.settings["command"] = arguments.started_by
    result.save(arguments.output)
    print(f"\n{result}\nModel and results: {arguments.output}/")
    return 0
