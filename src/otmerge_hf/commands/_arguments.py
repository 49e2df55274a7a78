"""Arguments that several commands state alike: the two encoders, and sources of captions and of questions."""

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

import torch

from ..data import CAPTION_PRESETS, PRESETS
from ..data.answers import Targets
from ..encoders import IMAGE_ENCODERS, TEXT_ENCODERS, resolve_encoder
from ..encoders.names import check_name
from ..features.keys import digest


_TOKENS = (
    "last_hidden_state, cls, pooled, a hidden layer's index or several joined, 0+3+6; "
    "of several choices validation's retrieval decides"
)
CAPTION_NAMES = (
    "preset", "image_folder", "limit", "image_column", "text_column", "group_column", "split_column",
    "delimiter",
)  # fmt: skip
_PAIR_NAMES = (
    "train_split", "validation_split", "test_split", "seed", *CAPTION_NAMES,
)  # fmt: skip
_QUESTION_NAMES = (
    "image_column", "question_column", "answer_column", "train_split", "validation_split", "test_split", "targets",
    "normalize", "top", "skip_bad", "seed", "preset",
)  # fmt: skip
# Given on only if the user gave them: some mean nothing for some sources.
_QUESTION_OPTIONS = ("image_folder", "split_column", "kind_columns", "answer_separator", "delimiter", "name")


def add_encoder_arguments(parser: ArgumentParser, several: bool = True) -> None:
    """State which encoders, which of their tokens (several choices, or one), and how they run."""
    add = parser.add_argument
    add(
        "--context",
        required=True,
        help=f"encoder of images or sounds: folder, Hub name, or {', '.join(IMAGE_ENCODERS)}",
    )
    add("--query", required=True, help=f"text encoder: folder, Hub name, or {', '.join(TEXT_ENCODERS)}")
    add(
        "--image-size",
        type=positive,
        help="pixels, a multiple of 32, for the efficientnet-lite encoders (default 224)",
    )
    if several:
        for side in ("context", "query"):
            add(f"--{side}-tokens", nargs="+", type=parse_tokens, default=["last_hidden_state"], help=_TOKENS)
    else:
        one = _TOKENS.partition(";")[0]
        add("--context-tokens", type=parse_tokens, default="last_hidden_state", help=one)
        auto = "auto: the last or the middle layer, by whose words answer validation better"
        add("--query-tokens", type=parse_tokens, default="auto", help=f"{one}; or {auto} (default %(default)s)")
    add("--cache-dir", type=Path, default=Path("runs/features"), help="where features are kept (default %(default)s)")
    add("--batch-size", type=positive, help="inputs per forward of an encoder (default: as many as are fast)")
    add("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu", help="default %(default)s")


def add_pair_arguments(parser: ArgumentParser) -> None:
    """State where image-caption pairs come from."""
    add = parser.add_argument
    add(
        "--pairs",
        required=True,
        help="folder of images (or WAV files) and a table, a table, a Hub name, or a preset's name",
    )
    add_caption_arguments(parser)
    add("--config-name", help="configuration of a Hub data set")
    add("--train-split", help="split, slices such as train[:100] allowed (default: train, else the source's first)")
    for split in ("validation", "test"):
        add(f"--{split}-split", help="likewise (default: the source's own, else a tenth of the training images)")
    add("--filter", action="append", default=[], metavar="COLUMN!=VALUE", help="keep these rows only; repeatable")
    add("--seed", type=int, default=0, help="of the images held out, and whatever else is drawn (default %(default)s)")


def add_caption_arguments(parser: ArgumentParser, prefix: str = "--") -> None:
    """State how images with captions are read; the flags begin with `prefix`."""
    add = parser.add_argument
    add(f"{prefix}preset", choices=list(CAPTION_PRESETS), help="columns and splits of a known set of captions")
    add(f"{prefix}image-folder", metavar="FOLDER", help="where paths of images start (default: the table's folder)")
    add(f"{prefix}limit", type=positive, metavar="N", help="read N rows of each split, as a stream (default: all)")
    add(f"{prefix}delimiter", help="what stands between the columns of a CSV file (default: a comma)")
    add(f"{prefix}image-column", help="column of images or of their paths (default: found by type, then name)")
    add(f"{prefix}text-column", help="column of captions (default: found by its name)")
    add(f"{prefix}group-column", help="column equal for captions of one image (default: the image's content)")
    add(f"{prefix}split-column", help="column of splits of a source with a single one (default: the preset's)")


def pair_options(arguments: Namespace) -> dict[str, Any]:
    """What `load_pair_splits` takes beside the source."""
    given = {"filters": arguments.filter} | ({"name": arguments.config_name} if arguments.config_name else {})
    return given | {name: getattr(arguments, name) for name in _PAIR_NAMES}


def add_question_arguments(parser: ArgumentParser, vocabulary: bool = True, required: bool = True) -> None:
    """State where questions about images, or images with classes, come from; and which answers there are."""
    add = parser.add_argument
    add("--data", required=required, help="folder with images and tables, a table, a Hub name, or a preset's name")
    add("--preset", choices=list(PRESETS), help="columns and splits of a known data set")
    add("--config-name", dest="name", help="configuration of a Hub data set")
    add(
        "--image-column",
        action="append",
        help="column of images or of their paths (default: found by type and name); repeated: several images a row",
    )
    add("--question-column", help="column of questions or statements (default: found by name); '' if there is none")
    add("--answer-column", help="column of answers or classes (default: found by name)")
    add(
        "--kind-column", dest="kind_columns", action="append", metavar="COLUMN", help="tells results apart; repeatable"
    )
    add("--train-split", help="split, file name, or slice such as train[:500] (default: found by name)")
    for split in ("validation", "test"):
        add(f"--{split}-split", help="likewise (default: found by name, else 15 %% of the training images)")
    add("--split-column", help="column of splits of a single table (default: split, where there is one)")
    add("--image-folder", metavar="FOLDER", help="where paths of images start (default: the table's folder)")
    add("--delimiter", help="what stands between the columns of a CSV file (default: a comma)")
    add("--answer-separator", help="what stands between several answers in one cell")
    add("--targets", choices=get_args(Targets), help="what several answers a row are (default: found)")
    if vocabulary:
        add(
            "--normalize",
            action=BooleanOptionalAction,
            help="count 'Yes ' and 'yes' as one (default: not for classes)",
        )
        add(
            "--top-answers", dest="top", type=positive, default=0, metavar="K", help="keep the K most frequent answers"
        )
    else:  # the merge has a vocabulary
        parser.set_defaults(normalize=None, top=0)
    add(
        "--skip-bad",
        action=BooleanOptionalAction,
        default=False,
        help="leave out rows with something wrong, and count them",
    )
    add("--seed", type=int, default=0, help="of the images held out, and whatever else is drawn (default %(default)s)")


def question_options(arguments: Namespace) -> dict[str, Any]:
    """What `load_questions` takes beside the source, which is `arguments.data`."""
    given = {name: value for name in _QUESTION_OPTIONS if (value := getattr(arguments, name)) is not None}
    named = {name: getattr(arguments, name) for name in _QUESTION_NAMES}
    return given | named | {"image_column": one_or_all(arguments.image_column)}


def one_or_all(values: list[str] | None) -> str | list[str] | None:
    """What a repeatable flag was given, without the list where it came once."""
    return values[0] if values is not None and len(values) == 1 else values


def check_encoders(arguments: Namespace) -> None:
    """Refuse a wrong name of an encoder, or one whose package is not installed, before the data are read."""
    for encoder, size in ((arguments.context, arguments.image_size), (arguments.query, None)):
        check_name(encoder)
        resolve_encoder(encoder, size if encoder in IMAGE_ENCODERS else None)


def check_output(folder: Path) -> None:
    """Refuse, with a ValueError, an output that is a file, or lies under one."""
    if blocked := next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None):
        raise ValueError(f"--output {str(folder)!r}: {str(blocked)!r} is a file; expected a folder, new or not")


def source_digest(source: str) -> str:
    """What tells a source of questions from others, without naming a folder of this machine."""
    return digest(str(Path(source).resolve()) if Path(source).exists() else source)


def positive(value: str) -> int:
    """A whole number above 0."""
    number = int(value) if value.isdecimal() else 0
    if number < 1:
        raise ArgumentTypeError(f"{value!r} is no whole number above 0")
    return number


def above_zero(value: str) -> float:
    """A number above 0."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"{value!r} is no number above 0")
    return number


def device(value: str) -> str:
    """A device that PyTorch can compute on here."""
    try:
        torch.zeros(1, device=value).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = shorten(str(error), 120)
        raise ArgumentTypeError(
            f"{value!r} is no device that computes here, such as cpu or cuda:0 ({reason})"
        ) from None
    return value


def parse_tokens(value: str) -> str | int:
    """A hidden layer's index, or the name of a token selection, as the configuration takes it."""
    return int(value) if value.removeprefix("-").isdecimal() else value
