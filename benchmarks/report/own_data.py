"""Cells of `own-data` -> Markdown: a row a data set, beside what needs no image and the laboratory's own figure."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ..runner.cell import Record
from ..runner.records import Records
from .intervals import estimate, paired_difference
from .table import interval


RESULTS = Path(__file__).parents[1] / "results"
FREQUENT, WORDS, MERGED = "most frequent answer", "words only, linear", "merged"
_HEAD = (
    "data",
    "rows: train / validation / test",
    "seeds",
    FREQUENT,
    "words only, linear",
    "merged [95%]",
    "merged - words [95%]",
    "reference",
    "words from; lower error by the middle layer",
    "kept: linear path; fuser",
)


def markdown(records: Sequence[Record]) -> str:
    """Table of all data sets, and the command of each."""
    found: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in records:
        found[record["settings"]["data"]][record["settings"]["seed"]] = record
    lines = [
        "Accuracy on the test part, the mean over seeds with its 95% t interval; the difference is taken seed by "
        "seed. The reference is what other code of this repository reached on the same test questions: the "
        "demonstration's script, or the method `grown` of the suite `photographs` with words of the last layer, whose "
        "validation part and rates differ. Words are taken from the last layer or from the middle one, as a ridge "
        "regression on them decides on validation.",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "|" + "---|" * len(_HEAD),
        *(_row(name, found[name]) for name in sorted(found)),
        "",
        "Commands, each with `--seed` and `--output`:",
        "",
    ]
    for name in sorted(found):
        command = next(iter(found[name].values()))["settings"]["command"]
        lines.append(f"- {name}: `otmerge train {' '.join(command)}`")
    machines = sorted({f"{r['machine']['cpu']}, torch {r['machine']['torch']}" for r in records})
    return "\n".join(lines) + f"\n\n{'; '.join(machines)}, threads {records[0]['machine']['threads']}.\n"


def _row(name: str, cells: dict[int, Record]) -> str:
    results = {seed: record["result"] for seed, record in cells.items()}

    def scores(which: str) -> dict[int, float]:
        return {seed: result["test"][which] for seed, result in results.items()}

    first = next(iter(results.values()))
    parts = sorted({part for result in results.values() for part in result["linear_path"]})
    fusers = sum(result["shares"]["fuser"] > 0 for result in results.values())
    row = (
        name,
        " / ".join(f"{first['counts'][part]['rows']:,}" for part in ("train", "validation", "test")),
        str(len(cells)),
        *(f"{estimate(list(scores(which).values())).mean:.4f}" for which in (FREQUENT, WORDS)),
        interval(estimate(list(scores(MERGED).values()))),
        interval(paired_difference(scores(MERGED), scores(WORDS)), sign=True),
        _reference(name),
        _words(list(results.values())),
        f"{', '.join(parts)}; {fusers} of {len(cells)}",
    )
    return "| " + " | ".join(row) + " |"


def _words(results: list[Record]) -> str:
    """The layers taken, and the share of the last layer's error that the other one saves, least and most."""
    layers = [str(result["settings"]["tokens"]["query"]).replace("last_hidden_state", "last") for result in results]
    errors = [list(result["query_tokens_errors"].values()) for result in results]
    saved = sorted(100 * (1 - other / last) for last, other in errors)
    return f"{', '.join(sorted(set(layers)))}; {saved[0]:.2f}% to {saved[-1]:.2f}%"


def _reference(name: str) -> str:
    if name == "easy-vqa":
        demo = json.loads((RESULTS / "demo.json").read_text())
        return f"{demo['rows']['merged']['accuracy']:.4f} (demonstration)"
    cells = Records(RESULTS / "photographs" / "cells.jsonl").read().values()
    found = [
        cell["accuracy"]
        for cell in cells
        for settings in [cell["settings"]]
        if (settings["task"], settings["method"], settings["recipe"]["label_fraction"]) == (name, "grown", 1.0)
        and settings["recipe"]["context_encoder"] == "efficientnet-lite0"
        and (settings["recipe"].get("questions_per_context"), settings["recipe"]["epochs"]) == (8, 4.0)
        and settings["recipe"]["query_tokens"] == "last_hidden_state"
    ]
    return f"{interval(estimate(found))} (`grown`)" if found else "-"
