"""What several commands read alike: captions beside questions, and one part of the questions."""

import json
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import PairSplit, load_pair_splits, load_questions, load_rows
from ..data.questions import Questions
from ._arguments import CAPTION_NAMES, question_options, source_digest


ALL = "all"


def load_captions(arguments: Namespace, flag: str) -> dict[str, PairSplit] | None:
    """Captions beside questions, if asked for: their flags begin with `--FLAG-`, those of the questions with `--`."""
    if not getattr(arguments, flag):
        if said := [name for name in ("filter", *CAPTION_NAMES) if getattr(arguments, f"{flag}_{name}")]:
            one = f"--{flag}-{said[0].replace('_', '-')}"
            raise ValueError(f"{one} says how captions are read; pass --{flag} too")
        return None
    given: dict[str, Any] = {"filters": getattr(arguments, f"{flag}_filter"), "seed": arguments.seed}
    given |= {name: getattr(arguments, f"{flag}_{name}") for name in CAPTION_NAMES}
    try:
        return load_pair_splits(getattr(arguments, flag), **given)
    except ValueError as error:
        message = str(error).removeprefix("source: ")
        for name in CAPTION_NAMES:  # their flags have another name than for the questions
            bare = rf"|(?<![\w'\"-]){name}(?![\w'\"])" if "_" in name else ""
            message = re.sub(f"`{name}`{bare}", f"--{flag}-{name.replace('_', '-')}", message)
        raise ValueError(f"--{flag}: {message}") from error


def load_part(arguments: Namespace) -> Questions:
    """The part that is asked for: of the data that the merge was trained on, as it was divided then."""
    options, names = question_options(arguments), ("normalize", "top", "seed")
    file, trained = Path(arguments.model) / "results.json", dict[str, Any]()
    if file.is_file():
        trained = json.loads(file.read_text()).get("settings", {}).get("reading", {})
    if trained.pop("data", None) == source_digest(arguments.data):
        given = {name: value for name, value in options.items() if value not in (None, False, 0)}
        if arguments.part == ALL:
            return load_rows(arguments.data, **_without(trained | given, names))
        part: Questions = getattr(load_questions(arguments.data, **trained | given), arguments.part)
        return part
    options = _without(options, names)  # of the vocabulary and of what is held out: neither is made here
    if arguments.part != ALL and not arguments.preset:
        try:
            return load_rows(arguments.data, part=arguments.part, **options)
        except ValueError as error:
            if not str(error).startswith("part:"):
                raise
            print(f"No {arguments.part} part, and not what the merge was trained on: all rows are scored.")
    return load_rows(arguments.data, **options)


def _without(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}
