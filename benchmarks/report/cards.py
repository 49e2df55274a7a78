"""Committed results -> the model cards of `model_cards/`: no figure in them that a committed run did not give."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.data import answer_names
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.hub import CardFacts, Metric, Table, render, start_facts
from otmerge_hf.hub.facts import EncoderFacts
from otmerge_hf.hub.numbers import counted, seconds
from otmerge_hf.hub.read_demo import read_demo
from otmerge_hf.hub.snippets import snippet
from otmerge_hf.model.configuration_otmerge import OTMergeConfig

from ..runner.cell import Record
from ..runner.records import Records, write_whole
from ..suites.photographs import RECIPE
from ..tasks.esnlive_f8k import ANSWERS
from .intervals import estimate, paired_difference
from .retrieval_card import retrieval_card
from .table import interval


_NOT_PUBLISHED = "The measured model is not published"
_TASK, _METHOD = "esnlive_f8k", "grown"
_SHOWN = {
    "most_frequent": "most frequent answer",
    "words_linear": "words only, linear",
    "grown_unaligned": "the same head, nothing aligned (the control)",
    _METHOD: "this merge",
}
_TOGETHER = 8  # questions of a photograph
_COMMAND = (
    "python -m benchmarks run photographs --data FOLDER --tasks esnlive_f8k "
    f"--methods {' '.join(_SHOWN)} --set questions_per_context={_TOGETHER}"
)


_TOY = "The images are drawn: one flat shape on a plain ground. Nothing here says how it does on photographs."


def build_merge(names: Sequence[str], image_size: int, **choices: Any) -> OTMergeForQuestionAnswering:
    """A merge of EfficientNet-Lite0 and MiniLM-L6, untrained: a card takes its configuration and sizes from it."""
    encoders = str(convert_efficientnet_lite(image_size=image_size)), str(minilm_l6_path())
    labels = dict(enumerate(names))
    return OTMergeForQuestionAnswering.from_encoders_pretrained(*encoders, id2label=labels, **choices)


def easy_vqa_merge() -> OTMergeForQuestionAnswering:
    """The merge of `examples/merge_easy_vqa.py`, untrained."""
    return build_merge(answer_names(), 64, context_tokens=11, linear_path=[])


def entailment_merge(recipe: dict[str, Any]) -> OTMergeForQuestionAnswering:
    """The merge of the method `grown` on `esnlive_f8k`, untrained."""
    same = ("image_size", "context_tokens", "query_tokens", "shared_dim", "fuser_type", "fuser_num_layers")
    choices = {name: recipe[name] for name in same}
    return build_merge(ANSWERS, choices.pop("image_size"), adapter_type="linear", **choices)


def easy_vqa_card(results: Path, name: str) -> CardFacts:
    """Of the committed run of `make demo`."""
    found = json.loads((results / "demo.json").read_text())
    facts = read_demo(start_facts(_config(easy_vqa_merge()), name), found)
    return replace(
        facts,
        measured=(*facts.measured, f"{_NOT_PUBLISHED}; the command makes such a one."),
        limits=(*facts.limits, _TOY),
        language="en",
    )


def entailment_card(results: Path, name: str) -> CardFacts:
    """Of the committed cells of the suite `photographs`: mean over seeds, with intervals.

    Raises:
        ValueError: If cells are missing.
    """
    cells: dict[str, dict[int, Record]] = {method: {} for method in _SHOWN}
    for record in Records(results / "photographs" / "cells.jsonl").read().values():
        settings = record["settings"]
        recipe = settings["recipe"]
        usual = (recipe["context_encoder"], recipe["label_fraction"]) == ("efficientnet-lite0", 1.0)
        usual &= (recipe["query_tokens"], recipe["epochs"]) == ("last_hidden_state", RECIPE["epochs"])
        usual &= settings["method"] == "most_frequent" or recipe.get("questions_per_context") == _TOGETHER
        if settings["task"] == _TASK and settings["method"] in cells and usual:
            cells[settings["method"]][recipe["seed"]] = record
    if missing := [method for method, own in cells.items() if not own]:
        raise ValueError(f"{results}/photographs holds no cells of {', '.join(missing)}; run: {_COMMAND}")
    ours = cells[_METHOD]
    first = next(iter(ours.values()))
    recipe = first["settings"]["recipe"]
    facts = start_facts(_config(entailment_merge(recipe)), name)
    tested = counted(first["test_questions"], "test pair")
    mean = estimate([cell["accuracy"] for cell in ours.values()])
    words = (
        f"EfficientNet-Lite0 and MiniLM-L6 as they were, at {recipe['image_size']} pixels. It says whether a "
        "photograph entails a sentence, contradicts it, or neither. Made with otmerge_hf."
    )
    return replace(
        facts,
        about=f"A merge of two pretrained encoders: {words}",
        snippet=snippet(name, "image", True).replace("what color is the shape?", "a man is asleep"),
        data=(
            f"e-SNLI-VE on photographs of Flickr8k (`esnlive_f8k`): {first['labels']:,} labelled pairs to learn from, "
            f"a fifth of their photographs as validation; {tested}, on other photographs.",
            f"To align on: {counted(first['pairs'], 'image-caption pair')} of Flickr8k, of photographs that the task "
            "does not ask about.",
        ),
        data_name="e-SNLI-VE on Flickr8k",
        stages=(
            "Both encoders stayed as they were; each distinct input went through them once.",
            f"Alignment in closed form: CCA, {recipe['shared_dim']} wide, on the captions.",
            f"Linear path: parts and strengths chosen on validation. Kept, by seed: {_kept(ours)}.",
            f"Fuser: trained by AdamW at {recipe['learning_rate']:g}, batch {recipe['batch_size']}, at most "
            f"{recipe['epochs']:g} passes, and kept as far as validation gained. Its share, by seed: {_shares(ours)}.",
        ),
        tables=(_accuracies(cells, tested),),
        metrics=(Metric("accuracy", f"accuracy, mean of {counted(mean.count, 'seed')}", mean.mean),),
        measured=(
            f"{counted(mean.count, 'seed')} ({', '.join(map(str, sorted(ours)))}), each with its own validation and "
            "initial weights. Means with 95% t intervals; differences are taken seed by seed.",
            f"Command: `{_COMMAND}`",
            "The closed form and the training's rates were set once, in trials that were not blind to the test "
            "questions.",
            f"{_NOT_PUBLISHED}; the command measures such models and keeps none.",
        ),
        compute=(
            f"CPU time as measured, after encoding, mean of the seeds: {seconds(_mean(ours, 'cpu_seconds'))}.",
            f"{counted(first['trainable'], 'trainable parameter')}, the linear path's included.",
        ),
        limits=(
            *facts.limits,
            "Of the image it has little more than how well it fits the sentence; counting and reading are beyond it.",
        ),
        language="en",
    )


def template_card(results: Path, name: str) -> CardFacts:
    """What each place of a card is for, for merges that were made in another way."""
    encoders = tuple(
        EncoderFacts(side, f"NAME OF THE {side.upper()} ENCODER", f"OWNER/{side.upper()}", "COMMIT", "LICENCE")
        for side in ("context", "query")
    )
    return CardFacts(
        name="NAME",
        task="visual-question-answering",
        about="WHAT IT IS, WHAT GOES IN AND WHAT COMES OUT. Made with otmerge_hf.",
        encoders=encoders,
        parts=("Adapters: TYPE AND WIDTH.", "Fuser: TYPE. Linear path beside it: PARTS."),
        adapters=("context: EXACT, LEFT-INVERSE, LEARNED OR NONE", "query: LIKEWISE"),
        snippet=snippet("NAME", "image", True),
        data=("DATA SET: COUNTS OF EACH PART, AND WHAT WAS LEFT OUT.",),
        data_name="DATA SET",
        datasets=("OWNER/DATA",),
        stages=("STAGE: TERMS, SCHEDULES AND SETTINGS AS THEY RAN.",),
        tables=(Table("On COUNT test rows", ("", "METRIC"), (("CONTROL", "VALUE"), ("this merge", "VALUE"))),),
        metrics=(Metric("METRIC", "METRIC", "VALUE"),),
        measured=("COUNT seeds; INTERVALS.", "Command: `COMMAND`"),
        compute=("Time as measured: SECONDS.", "COUNT trainable parameters."),
        limits=("WHAT IT CANNOT DO; WHAT WAS NOT MEASURED.",),
        license="LICENCE",
        language="LANGUAGE",
    )


CARDS: dict[str, Callable[[Path, str], CardFacts]] = {
    "TEMPLATE": template_card,
    "otmerge-lite0-minilm-easy-vqa": easy_vqa_card,
    "otmerge-lite0-minilm-entailment": entailment_card,
    "otmerge-vit-minilm-flickr8k": retrieval_card,
}


def write_cards(results: Path, folder: Path) -> list[Path]:
    """Write every card; returns the files."""
    written = []
    for name, build in CARDS.items():
        write_whole(path := folder / f"{name}.md", str(render(build(results, name))))
        written.append(path)
    return written


def _config(model: OTMergeForQuestionAnswering) -> OTMergeConfig:
    config: OTMergeConfig = model.config
    config.architectures = [type(model).__name__]  # as a saved one has it
    return config


def _accuracies(cells: dict[str, dict[int, Record]], tested: str) -> Table:
    ours = {seed: cell["accuracy"] for seed, cell in cells[_METHOD].items()}
    rows = []
    for method, title in _SHOWN.items():
        values = {seed: cell["accuracy"] for seed, cell in cells[method].items()}
        gain = "" if method == _METHOD else interval(paired_difference(ours, values), sign=True)
        rows.append((title, interval(estimate(list(values.values()))), gain))
    return Table(f"On {tested}", ("", "accuracy [95%]", "this merge minus that [95%]"), tuple(rows))


def _kept(cells: dict[int, Record]) -> str:
    return "; ".join(", ".join(cells[seed]["chosen"]["strengths"]) for seed in sorted(cells))


def _shares(cells: dict[int, Record]) -> str:
    return ", ".join(f"{cells[seed]['chosen']['shares']['fuser']:g}" for seed in sorted(cells))


def _mean(cells: dict[int, Record], name: str) -> float:
    return float(sum(cell["compute"][name] for cell in cells.values()) / len(cells))
