"""Cells of `forecast` -> Markdown: forecast beside measured recall, and the control that says the mean."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import log
from statistics import correlation, fmean, median
from typing import Any, NamedTuple

from ..runner.cell import Record


_HEAD = ("data", "candidates", "pairs", "draws", "measured", "forecast", "mean absolute error", "in the interval")

# As in `forecasting.FEW`; a report imports no torch.
FEW = 200


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


def needs(records: Sequence[Record]) -> tuple[list[float], list[bool]]:
    """How well needed pairs are forecast.

    Returns:
        Forecast by measured number of pairs, where both lie between n and 4 n, the measured curve's logit being a line
        between numbers that are twice one another; and whether what was refused as more than 8 n was indeed not
        reached with 4 n.
    """
    ratios, refused = [], []
    for record in records:
        for row in record["rows"]:
            said, scores = row["forecast"], row["measured"]
            if "4" not in scores:
                continue
            curve = [scores[times][said["fit"]]["1"] for times in ("1", "2", "4")]
            for recall, needed in said["needed"].items():
                if needed is None:
                    refused.append(curve[-1] < float(recall))
                    continue
                steps = [place for place in (0, 1) if curve[place] <= float(recall) < curve[place + 1]]
                if steps and 1 <= needed[0] / row["pairs"] <= 4:
                    low, high = (_logit(curve[place]) for place in (steps[0], steps[0] + 1))
                    reached = 2 ** (steps[0] + (_logit(float(recall)) - low) / (high - low))
                    ratios.append(needed[0] / row["pairs"] / reached)
    return ratios, refused


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return log(p / (1 - p))


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
    at_hand = points(records)
    for name, found in (
        ("those at hand", at_hand),
        ("at most 200", [point for point in at_hand if point.pairs <= FEW]),
        ("more than 200", [point for point in at_hand if point.pairs > FEW]),
        ("twice those at hand", points(records, 2)),
        ("four times those at hand", points(records, 4)),
    ):
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
    found, (ratios, refused) = at_hand, needs(records)
    lines += [
        "",
        f"The 90% interval held the measured recall in {100 * fmean(point.inside for point in found):.0f}% of "
        f"{len(found)} forecasts. The chosen closed form was "
        f"{fmean(point.best - point.measured for point in found):.3f}"
        " below the best in the mean.",
        "",
        f"Pairs that a Recall@1 of 0.1, 0.2, 0.5 or 0.8 needs, where forecast and measurement both lie between n and "
        f"4 n: {len(ratios)} forecasts, {100 * fmean(0.5 <= ratio <= 2 for ratio in ratios):.0f}% within a factor of "
        f"two, median {median(ratios):.2f} of what was needed. Refused as more than 8 n: {len(refused)}, of which "
        f"{100 * fmean(refused):.0f}% were not reached with 4 n.",
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
    machines = sorted({f"{r['machine']['architecture']}, torch {r['machine']['torch']}" for r in records})
    return "\n".join(lines) + f"\n\n{'; '.join(machines)}.\n"


def _three(value: float) -> str:
    return f"{value:.3f}"
