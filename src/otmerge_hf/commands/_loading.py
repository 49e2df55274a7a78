"""What commands load alike: a saved merge with its processor, captions beside questions, one part of questions."""

import json
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoProcessor

from ..data import PairSplit, load_pair_splits, load_questions, load_rows
from ..data.questions import Questions
from ..model.configuration_otmerge import OTMergeConfig
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from ._arguments import CAPTION_NAMES, question_options, source_digest


ALL = "all"


def load_merge(name: str) -> tuple[OTMergeForQuestionAnswering | OTMergeModel, OTMergeProcessor]:
    """Load a merge, with its answer head where it has one.

    Raises:
        ValueError: If it is no merge.
        OSError: If it is not found.
    """
    if not Path(name).exists() and name.count("/") > 1:
        raise ValueError(f"model {name!r} is no folder here, and no name on the Hub (owner/name)")
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ValueError(f"model {name!r} is a folder without a saved merge: it has no config.json")
    try:
        config = AutoConfig.from_pretrained(name)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise OSError(f"model {name!r} is no saved merge here or on the Hub ({reason})") from error
    if not isinstance(config, OTMergeConfig):
        raise ValueError(
            f"model {name!r} is a {config.model_type} model; expected a merge, as otmerge train saves one"
        )
    answers = OTMergeForQuestionAnswering.__name__ in (config.architectures or ())
    model = (OTMergeForQuestionAnswering if answers else OTMergeModel).from_pretrained(name).eval()
    return model, AutoProcessor.from_pretrained(name)


def load_answering(name: str) -> tuple[OTMergeForQuestionAnswering, OTMergeProcessor]:
    """Load a merge with an answer head; raises as [`load_merge`] does, and ValueError if it only retrieves."""
    model, processor = load_merge(name)
    if isinstance(model, OTMergeModel) or model.head_is_untrained:
        raise ValueError(f"model {name!r} retrieves only: it has no answer head; otmerge train teaches one")
    return model, processor


def load_captions(arguments: Namespace, flag: str) -> dict[str, PairSplit]:
    """Captions beside questions: their flags begin with `--FLAG-`, of the questions with `--`."""
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
