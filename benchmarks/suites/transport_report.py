"""Cells of the suites `transport` and `transport-tiny` -> Markdown: ratios of time, theirs over ours."""

from collections.abc import Callable, Sequence
from typing import Any

from ..runner.cell import Record


OTHERS = ["geomloss matched", "geomloss 0.5", "POT log", "OTT-JAX jit"]
OTHERS_TINY = ["OTT-JAX logarithmic", "OTT-JAX kernel", "POT ot.solve", "POT NumPy"]


def markdown(records: Sequence[Record]) -> str:
    """The tables, with what is needed to read them."""
    cases = sorted((r for r in records if r["settings"]["measure"] == "time"), key=_order)
    memory = [r for r in records if r["settings"]["measure"] == "memory"]
    lines = ["Made by `python -m benchmarks run transport`; the same numbers with settings in `cells.jsonl`.", ""]
    if cases:
        lines += [_how_to_read(cases[0]), ""]
    head = ["N, D, epsilon / mean cost", "threads", "our iterations", "our errors: value, gradient"]
    lines += [*_machines(records), *_tables([*head, *OTHERS, "ours / floor", "our ms"], cases, _line)]
    for record in memory:
        floats = f"{record['n2_floats']:.2f} N x N floats beyond the inputs"
        lines += ["", f"Peak memory at N = {record['settings']['n']}: {floats}."]
    return "\n".join(lines) + "\n"


def markdown_tiny(records: Sequence[Record]) -> str:
    """The same of many tiny problems."""
    cases = sorted(records, key=lambda r: (r["settings"]["n"], -r["settings"]["problems"], -r["settings"]["epsilon"]))
    head = ["problems, N x M, D, epsilon / mean cost", "our iterations", "our errors: value, gradient"]
    plans = ["our plan and its gradient / our value", "with slack 0.3", "our ms"]
    lines = [
        "Made by `python -m benchmarks run transport-tiny`; the same numbers with settings in `cells.jsonl`.",
        "",
        "All problems in one call: values and gradients in both clouds, float32, one thread, processor time. Each "
        f"library runs at its cheapest setting whose values are all within {cases[0]['value_bar']:g} and whose "
        f"gradients are, problem by problem, within {cases[0]['gradient_bar']:g} of POT in float64; ours at its "
        "defaults. OTT-JAX runs under `vmap` and `jit` and looks at its error every 1, 5 or 10 iterations, whichever "
        "is fastest; POT runs in a loop, by `ot.solve` on tensors and by `ot.sinkhorn` on arrays with the gradient "
        "written by hand. Runs take turns in one process. A ratio is their time / ours: above 1 we are faster. `>`: "
        "the most expensive setting tried does not meet the bars; its gradient error stands in brackets. `diverges`: "
        "values that are not finite. The milliseconds are of a shared machine and mean little.",
        "",
    ]
    lines += [*_machines(records), *_tables([*head, *OTHERS_TINY, *plans], cases, _line_tiny)]
    return "\n".join(lines) + "\n"


def _tables(head: Sequence[str], cases: Sequence[Record], line: Callable[[Record, str], str]) -> list[str]:
    """One table of the medians and one of the fastest runs; none without cases."""
    lines = []
    titles = {"ratio": "Medians over rounds", "best_ratio": "The fastest run of each"}
    for ratio, title in titles.items() if cases else ():
        lines += ["", f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [line(case, ratio) for case in cases]
    return lines


def _machines(records: Sequence[Record]) -> list[str]:
    """A line for each machine with its versions, and the loads it had."""
    loads: dict[tuple[str, str], set[str]] = {}
    for facts in (record["machine"] for record in records):
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
        about = f"{facts['cpu']}, {facts['cores']} cores", f"Python {facts['python']}, {versions}"
        loads.setdefault(about, set()).add(f"{facts['load'][0]:.1f}")
    lines = []
    for (name, more), seen in loads.items():
        ends = dict.fromkeys(end(seen, key=float) for end in (min, max))
        lines.append(f"{name}, load {' to '.join(ends)} at the start; {more}.")
    return sorted(lines)


def _order(case: Record) -> tuple[Any, ...]:
    choices = case["settings"]
    return choices["threads"], choices["n"], choices["d"], -choices["epsilon"], choices.get("limit", 0)


def _how_to_read(case: Record) -> str:
    return (
        "Forward and backward (gradient in x), float32. Each library runs at its cheapest setting whose value is "
        f"within {case['value_bar']:g} and whose gradient is within {case['gradient_bar']:g} of POT in float64; "
        "ours at its defaults. Runs take turns in one process. A ratio is their time / ours: above 1 we are faster; "
        "on one thread it is processor time, on two it is wall time. `>`: the most expensive setting tried does not "
        "meet the bars; its gradient error stands in brackets. geomloss 0.5 is its default, not held to the bars, "
        "gradient error in brackets. Ours / floor: the floor is one cost product, one plan product, two exponentials "
        "and the matrix-vector products we did. The milliseconds are of a shared machine and mean little."
    )


def _ratio(row: dict[str, Any] | None, ratio: str, with_error: bool = False) -> str:
    """One ratio; '>' when the library never met the bars, so that more would cost more."""
    if row is None:
        return "-"
    text = f"{row[ratio]:.1f}" if row["met"] or with_error else f"> {row[ratio]:.1f}"
    return f"{text} ({row['gradient_error']:.1%})" if with_error or not row["met"] else text


def _line(case: Record, ratio: str) -> str:
    rows, choices = case["rows"], case["settings"]
    ours = rows["otmerge_hf"]
    others = [_ratio(rows.get(name), ratio, with_error=name == "geomloss 0.5") for name in OTHERS]
    limit = f" (others at most {choices['limit']:g} s a call)" if "limit" in choices else ""
    return (
        f"| {choices['n']}, {choices['d']}, {choices['epsilon']}{limit} | {choices['threads']} | {case['iterations']} "
        f"| {ours['value_error']:.0e}, {ours['gradient_error']:.0e} | {' | '.join(others)} "
        f"| {1 / rows['floor'][ratio]:.1f} | {ours['ms']:.2f} |"
    )


def _line_tiny(case: Record, ratio: str) -> str:
    rows, choices = case["rows"], case["settings"]
    ours, others = rows["otmerge_hf"], []
    for family in OTHERS_TINY:
        members = [row for name, row in rows.items() if name.startswith(family)]
        best = min(members, key=lambda row: (not row["met"], row[ratio]), default=None)
        diverged = best is None and any(name.startswith(family) for name in case.get("diverged", ()))
        others.append("diverges" if diverged else _ratio(best, ratio))
    plans = [f"{rows[name][ratio]:.1f}" for name in ("our plan", "our plan, slack 0.3")]
    return (
        f"| {choices['problems']}, {choices['n']} x {choices['m']}, {choices['d']}, {choices['epsilon']} "
        f"| {case['iterations']} | {ours['value_error']:.0e}, {ours['gradient_error']:.0e} "
        f"| {' | '.join(others + plans)} | {ours['ms']:.2f} |"
    )
