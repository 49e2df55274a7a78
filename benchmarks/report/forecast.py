"""Cells of `forecast` -> Markdown: forecast beside measured recall, and the control that says the mean."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import correlation, fmean
from typing import Any, NamedTuple

from ..runner.cell import Record


_HEAD = ("data", "candidates", "pairs", "draws", "measured", "forecast", "mean absolute error", "in the interval")


class Point(NamedTuple):
    """One forecast and what became of it; `best` is the measured recall of the best closed form."""

    data: str
    pairs: int
    candidates: int
    forecast: float
    measured: float
    best: float
    inside: bool


def points(records: Sequence[Record], times: int = 1) -> list[Point]:
    """Recall@1 of the chosen closed form, with `times` the pairs that the forecast was made from."""
    found = []
    for record in records:
        for row in record["rows"]:
            said, scores = row["forecast"], row["measured"].get(str(times))
            if scores is None:
                continue
            value = said["recall"]["1"] if times == 1 else said["with_more"][str(times)]
            reached = scores[said["fit"]]["1"]
            low, high = said["interval"]
            best = max(score["1"] for score in scores.values())
            found.append(
                Point(
                    record["settings"]["data"],
                    row["pairs"],
                    row["candidates"],
                    value,
                    reached,
                    best,
                    low <= reached <= high,
                )
            )
    return sorted(found)


def control_error(found: Sequence[Point], alike: Callable[[Point], Any] = lambda point: None) -> float:
    """Mean absolute error of saying the mean recall of the other data sets' points that are alike."""
    errors = []
    for point in found:
        others = [other.measured for other in found if other.data != point.data and alike(other) == alike(point)]
        if others:
            errors.append(abs(fmean(others) - point.measured))
    return fmean(errors)


def error(found: Sequence[Point]) -> float:
    """Mean absolute error of the forecasts."""
    return fmean(abs(point.forecast - point.measured) for point in found)


def markdown(records: Sequence[Record]) -> str:
    """What the forecasts are worth in all, and a table by data set, candidates and pairs."""
    lines = [
        "Recall@1, the mean of both directions, of the closed form that the forecast chose; measured on test rows. "
        "The control says the mean of what was measured on the other data sets, of all points or of those with as "
        "many pairs. The curve, a line in one over the root of the pairs, was chosen on these data sets; nothing else "
        "of the forecast is fitted to any other data than its own pairs.",
        "",
        "| pairs | points | mean absolute error | correlation | the mean | the mean of as many pairs |",
        "|---|---|---|---|---|---|",
    ]
    for times, name in ((1, "those at hand"), (2, "twice as many"), (4, "four times as many")):
        found = points(records, times)
        together = correlation([point.forecast for point in found], [point.measured for point in found])
        controls = (control_error(found), control_error(found, lambda point: point.pairs))
        row = (
            name,
            str(len(found)),
            f"{error(found):.3f}",
            f"{together:.3f}",
            *map(_three, controls),
        )
        lines.append("| " + " | ".join(row) + " |")
    found = points(records)
    lines += [
        "",
        f"The 90% interval held the measured recall in {100 * fmean(point.inside for point in found):.0f}% of "
        f"{len(found)} forecasts. The chosen closed form was "
        f"{fmean(point.best - point.measured for point in found):.3f}"
        " below the best in the mean.",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "|" + "---|" * len(_HEAD),
    ]
    groups: dict[tuple[str, int, int], list[Point]] = defaultdict(list)
    for point in found:
        groups[point.data, point.candidates, point.pairs].append(point)
    for (data, candidates, pairs), own in sorted(groups.items()):
        means = (fmean(point.measured for point in own), fmean(point.forecast for point in own), error(own))
        inside = f"{sum(point.inside for point in own)} of {len(own)}"
        row = (data, f"{candidates:,}", f"{pairs:,}", str(len(own)), *map(_three, means), inside)
        lines.append("| " + " | ".join(row) + " |")
    machines = sorted({f"{r['machine']['cpu']}, torch {r['machine']['torch']}" for r in records})
    return "\n".join(lines) + f"\n\n{'; '.join(machines)}.\n"


def _three(value: float) -> str:
    return f"{value:.3f}"
