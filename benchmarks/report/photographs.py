"""Cells of `photographs` -> Markdown: a table a task and share of labels, published rows beside ours."""

from collections import defaultdict
from collections.abc import Sequence

from ..methods import METHODS
from ..runner.cell import Record
from ..runner.recipe import Recipe
from ..tasks.published import READ_IN, published
from .intervals import estimate, paired_difference
from .table import interval


CONTROLS = {"words_linear": "words", "grown_unaligned": "unaligned"}
_ABOUT = (
    "Accuracy on the official test split, the mean over seeds with its 95% t interval; differences are taken seed by "
    "seed. A seed draws what is labelled, validation (a fifth of the training photographs) and initial weights. "
    "Parts, strengths, the fuser's steps and its share are chosen on validation; `kept` says what: parts of the path, "
    "and in how many cells the fuser. The closed form (CCA, ridge 0.3, width 256) and the training's rates were "
    "set once, in trials that were not blind to the test questions."
)
_HEAD = (
    "method",
    "seeds",
    "accuracy [95%]",
    "difference to words (`words_linear`) [95%]",
    "difference to unaligned (`grown_unaligned`) [95%]",
    "WUPS@0.9 / @0.0",
    "kept",
    "CPU seconds after encoding",
    "TFLOP after encoding",
)


def markdown(records: Sequence[Record]) -> str:
    """Every task and share of labels that has cells."""
    found: dict[tuple[str, str, float], dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        settings, recipe = record["settings"], record["settings"]["recipe"]
        if "refused" not in record:
            place = settings["task"], _encoder(recipe), recipe["label_fraction"]
            found[place][settings["method"] + _changed(recipe)][recipe["seed"]] = record
    machines = sorted({", ".join(f"{k} {v}" for k, v in record["machine"].items()) for record in records})
    parts = [f"{_ABOUT}\n\n{'; '.join(machines)}."]
    for (task, encoder, fraction), methods in sorted(found.items(), key=lambda item: (*item[0][:2], -item[0][2])):
        tested = {r["test_questions"] for cells in methods.values() for r in cells.values()}
        parts.append(
            f"## {task}, {encoder}, labels of {100 * fraction:.3g}% of the training photographs\n\n"
            f"{' or '.join(f'{n:,}' for n in sorted(tested))} test questions.\n\n" + _table(task, methods)
        )
    return "\n\n".join(parts) + "\n"


def _changed(recipe: Record) -> str:
    """The choices of encoders that train, where they are not the suite's."""
    from ..suites.photographs import RECIPE

    usual = Recipe(**RECIPE).to_dict()
    names = ("encoder_learning_rate", "epochs", "questions_per_context")
    changed = [f"{name} {recipe[name]:g}" for name in names if name in recipe and recipe[name] != usual.get(name)]
    return f" ({', '.join(changed)})" if changed else ""


def _encoder(recipe: Record) -> str:
    """The encoder of photographs, and what is taken of it and of the texts' where that is not the last layer."""
    tokens, words = recipe["context_tokens"], recipe["query_tokens"]
    found = recipe["context_encoder"] + ("" if tokens == "last_hidden_state" else f" (`{tokens}`)")
    return found + ("" if words == "last_hidden_state" else f", words of the text encoder's layer {words}")


def _table(task: str, methods: dict[str, dict[int, Record]]) -> str:
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + "---|" * len(_HEAD)]
    for method in sorted(methods, key=lambda name: (list(METHODS).index(name.partition(" ")[0]), name)):
        cells = methods[method]
        values = {seed: cell["accuracy"] for seed, cell in cells.items()}
        differences = []
        name, _, changed = method.partition(" ")
        for control in CONTROLS:
            alike = methods.get(f"{control} {changed}".strip()) or methods.get(control)
            alike = alike or next((cells for other, cells in methods.items() if other.startswith(control)), {})
            theirs = {seed: cell["accuracy"] for seed, cell in alike.items()}
            difference = paired_difference(values, theirs) if name != control else None
            differences.append(interval(difference, sign=True))
        with_wups = [cell["wups"] for cell in cells.values() if "wups" in cell]  # not on machines without WordNet
        scores = [sum(each[t] for each in with_wups) / len(with_wups) for t in (with_wups or [{}])[0]]
        few = f" ({len(with_wups)} of {len(cells)})" if len(with_wups) < len(cells) else ""
        row = (
            f"`{method}`",
            str(len(cells)),
            interval(estimate(list(values.values()))),
            *differences,
            " / ".join(f"{100 * score:.1f}" for score in scores) + few if scores else "-",
            _kept(list(cells.values())),
            _seconds(sum(c["compute"]["cpu_seconds"] for c in cells.values()) / len(cells)),
            f"{sum(c['compute']['flops'] for c in cells.values()) / len(cells) / 1e12:.3g}",
        )
        lines.append("| " + " | ".join(row) + " |")
    for other in published(task):
        wups_pair = f"{100 * other.wups_90:.1f} / {100 * other.wups_0:.1f}"
        name = f"published: {other.method} ({other.source})"
        lines.append(f"| {name} | - | {other.accuracy:.3f} | - | - | {wups_pair} | - | - | - |")
    if published(task):
        lines += ["", f"Published rows are from {READ_IN}."]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.1f}" if 0 < value < 100 else f"{value:,.0f}"


def _kept(cells: list[Record]) -> str:
    if not cells[0].get("chosen"):
        return "-"
    parts = sorted({name for cell in cells for name in cell["chosen"]["strengths"]})
    counts = [sum(name in cell["chosen"]["strengths"] for cell in cells) for name in parts]
    path = ", ".join(name if n == len(cells) else f"{name} ({n})" for name, n in zip(parts, counts, strict=True))
    return f"{path}; fuser {sum(cell['chosen']['shares']['fuser'] > 0 for cell in cells)} of {len(cells)}"
