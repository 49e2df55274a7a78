"""Cells of `preservation` on photographs -> PNGs: retrieval and entailment against what of the encoder comes back."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..runner.cell import Record
from .intervals import Estimate, estimate
from .plots import bars, new_figure


Row = tuple[str, int, float | None, float]  # adapter, width, scale, weight of the reconstruction term
LOOKS = {
    "pca": ("x", "#555555"),
    "cca": ("o", "#0b4f9e"),
    "procrustes": ("s", "#2a7f3f"),
    "linear": ("D", "#b34700"),
    "mlp": ("^", "#8b2f8b"),
    "coupling": ("*", "#a5182d"),
}
_KEPT = "share of ImageNet top-1 answers that is kept"
LEAST_KL = 3e-3  # nats: what is nearer to nothing, an exact inverse's rounding, is drawn here


class Point(NamedTuple):
    """One adapter and one way back: `inverse`, `decoder`, or the linear map that was `fitted` afterwards."""

    row: Row
    way: str
    recall: Estimate
    top1: float
    kl: float
    gain: Estimate | None = None  # on entailment, over the words alone


def points(found: Mapping[tuple, Sequence[Record]]) -> list[Point]:
    """Means over seeds, by adapter and way back."""
    made = []
    for row, cells in found.items():
        recall, images = estimate([cell["recall"] for cell in cells]), [cell["context"] for cell in cells]
        gain = estimate([cell["entailment"] - cell["words"] for cell in cells]) if "words" in cells[0] else None
        ways = {images[0]["way"]: images}
        if "fitted" in images[0]:
            ways["fitted"] = [image["fitted"] for image in images]
        for way, own in ways.items():
            top1, kl = (estimate([image[name] for image in own]).mean for name in ("top1", "kl"))
            made.append(Point(row, way, recall, top1, kl, gain))
    return made


def draw_trade_off(found: Mapping[tuple, Sequence[Record]], path: Path) -> Path:
    """Draw recall against top-1 agreement and against KL; lines join what differs by one setting alone.

    Raises:
        ImportError: If matplotlib is missing.
    """
    figure, panels = new_figure(2)
    made = points(found)
    _fill(panels[0], made, lambda p: p.top1, lambda p: p.recall, labels=LOOKS)
    _fill(panels[1], made, lambda p: max(p.kl, LEAST_KL), lambda p: p.recall)
    panels[0].set(xlabel=_KEPT, xlim=(0.05, 1.25))
    panels[1].set(xscale="log", xlabel="KL of the classifier's answers, nats (exact inverses at the right edge)")
    panels[1].invert_xaxis()
    for panel in panels:
        panel.set(ylabel="Recall@1, mean of both directions")
    _explain(panels[0])
    figure.savefig(path, dpi=120)
    return path


def draw_entailment(found: Mapping[tuple, Sequence[Record]], path: Path) -> Path:
    """Draw what the cosine adds to the words' accuracy on entailment, against top-1 agreement and against recall.

    Raises:
        ImportError: If matplotlib is missing.
    """
    figure, panels = new_figure(2)
    made = points(found)
    _fill(panels[0], made, lambda p: p.top1, lambda p: p.gain, labels=("cca", "procrustes", "pca"))
    alone = [point for point in made if point.way != "decoder"]  # recall does not depend on the way back
    _fill(panels[1], alone, lambda p: p.recall.mean, lambda p: p.gain)
    panels[0].set(xlabel=_KEPT, xlim=(0.05, 1.25))
    panels[1].set(xlabel="Recall@1, mean of both directions")
    for panel in panels:
        panel.axhline(0, color="black", linestyle=":", linewidth=1, label="words alone")
        panel.set(ylabel="accuracy on entailment that the cosine adds")
    _explain(panels[1], "upper left")
    figure.savefig(path, dpi=120)
    return path


def _fill(
    panel: Any,
    made: Sequence[Point],
    place: Callable[[Point], float],
    height: Callable[[Point], Any],
    labels: Collection[str] = (),
) -> None:
    """Points with their intervals, and lines between those that differ by one setting."""
    for line in _lines(made):
        color = LOOKS[line[0].row[0]][1]
        panel.plot([place(p) for p in line], [height(p).mean for p in line], color=color, linewidth=0.8, zorder=1)
    for point in made:
        _mark(panel, point, place(point), height(point))
    for text, point in _labels([point for point in made if point.row[0] in labels], height):
        # where there is room
        right = -7 if point.way == "decoder" else 7
        up = -9 if (point.row[0], point.way) == ("linear", "inverse") else 3
        where = {"xytext": (right, up), "textcoords": "offset points", "ha": "right" if right < 0 else "left"}
        panel.annotate(text, (place(point), height(point).mean), fontsize=7, **where)


def _explain(panel: Any, place: str = "lower left") -> None:
    for name, (marker, color) in LOOKS.items():
        panel.plot([], [], marker, color=color, label=name)
    for way, fill in (
        ("exact inverse", "black"),
        ("learned decoder", "#bbbbbb"),
        ("linear, fitted afterwards", "white"),
    ):
        panel.plot([], [], "o", color="black", markerfacecolor=fill, label=way)
    panel.legend(fontsize=7, loc=place)


def _mark(panel: Any, point: Point, x: float, y: Estimate) -> None:
    marker, color = LOOKS[point.row[0]]
    fill = {"inverse": color, "decoder": "#bbbbbb", "fitted": "white"}[point.way]
    given = {"fmt": marker, "color": color, "markerfacecolor": fill, "markersize": 9 if marker == "*" else 6}
    panel.errorbar([x], [y.mean], yerr=bars(y), capsize=2, elinewidth=0.8, **given)


def _labels(made: Sequence[Point], height: Callable[[Point], Any]) -> list[tuple[str, Point]]:
    """Width and what else was varied, once for points that lie on one another."""
    heaps: dict[tuple, list[Point]] = {}
    for point in made:
        adapter, width, *_ = point.row
        heaps.setdefault((adapter, width, point.way, round(point.top1, 1), round(height(point).mean, 1)), []).append(
            point
        )
    found = []
    for (_, width, *_), heap in heaps.items():
        varied = {"scale": {p.row[2] for p in heap if p.row[2] is not None}, "weight": {p.row[3] for p in heap}}
        told = [f"{name} {', '.join(f'{value:g}' for value in sorted(of))}" for name, of in varied.items() if any(of)]
        found.append((": ".join([str(width), ", ".join(told)] if told else [str(width)]), heap[0]))
    return found


def _lines(made: Sequence[Point]) -> list[list[Point]]:
    """Points of one adapter and one way that differ in one of width, scale and reconstruction weight, in its order."""
    lines = []
    for varied in (1, 2, 3):
        groups: dict[tuple, list[Point]] = {}
        for point in made:
            same = tuple(value for place, value in enumerate(point.row) if place != varied)
            groups.setdefault((*same, point.way), []).append(point)
        ordered = (sorted(group, key=lambda p: p.row[varied] or 0.0) for group in groups.values())
        lines += [group for group in ordered if len(group) > 1]
    return lines
