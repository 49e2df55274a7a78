"""`otmerge report`: a saved merge and some data in, one HTML page about it and its pictures out."""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

import datasets

from ..analysis import write_report
from ..hub import facts_of
from ..hub.pictures import FOLDER
from ._arguments import add_caption_arguments, add_question_arguments, check_output, positive
from ._loading import load_merge
from ._logging import show_features_only
from ._reading import load_captions, load_part


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "report",
        help="write one HTML page about a saved merge: what it keeps and what it aligns",
        description="Write report.html, which needs nothing beside itself, and its pictures: what was merged, what "
        "the adapters keep; with --pairs modality gap, retrieval curve and the encoders' layers on the test pairs; "
        "with --data or --pairs the plan between words and patches. The test parts are those that otmerge align and "
        "otmerge train hold out.",
    )
    add = parser.add_argument
    add("--model", required=True, help="folder or Hub name of the merge")
    add("--output", type=Path, help="folder for the page and its pictures (default: report/ in the model's folder)")
    add("--pairs", metavar="SOURCE", help="images with captions, as of otmerge align")
    add_caption_arguments(parser, "--pairs-")
    add("--pairs-filter", action="append", default=[], metavar="COLUMN!=VALUE", help="use these rows; repeatable")
    add_question_arguments(parser, vocabulary=False, required=False)
    parser.set_defaults(part="test")
    add("--examples", type=positive, default=4, help="rows whose words and patches are shown (default %(default)s)")
    add("--cache-dir", type=Path, default=Path("runs/features"), help="where features are kept (default %(default)s)")
    add("--batch-size", type=positive, help="inputs per forward (default: as many as are fast)")
    return parser


def run(arguments: Namespace) -> int:
    """Write the page, and print where it is; see [`write_report`] for what it raises."""
    show_features_only()
    datasets.disable_progress_bars()
    folder = Path(arguments.model)
    output = arguments.output or (folder / FOLDER if folder.is_dir() else Path("report"))
    check_output(output)
    model, processor = load_merge(arguments.model)
    options = {name: getattr(arguments, name) for name in ("examples", "cache_dir", "batch_size")}
    options |= {"facts": facts_of(folder)}
    if splits := load_captions(arguments, "pairs"):
        options["pairs"] = splits["test"]
        print(f"pairs: {splits['test']}")
    if arguments.data:
        options["questions"] = load_part(arguments)
        print(f"data: {options['questions']}")
    page = write_report(output, model, processor, **options)
    if output == folder / FOLDER:
        print(f"otmerge card --model {folder} puts the pictures into the model card.")
    print(page)
    return 0
