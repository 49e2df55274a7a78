"""Groups of cells -> PNG: accuracy against compute, against labels, and along each ablated axis."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .intervals import Estimate
from .summary import Group, ablations


def draw(everything: Sequence[Group], folder: Path) -> list[Path]:
    """Draw every plot that the groups allow.

    Args:
        everything: From [`summary.groups`].
        folder: Where the PNGs go.

    Returns:
        The files written.

    Raises:
        ImportError: If matplotlib is missing.
    """
    written = [_accuracy_against_compute(everything, folder / "accuracy-against-compute.png")]
    usual = [group for group in everything if not group.change]
    if len({group.label_fraction for group in usual}) > 1:
        written.append(_labels(usual, folder / "accuracy-against-labels.png"))
    for axis, lines in ablations(everything).items():
        written.append(_ablation(axis, lines, folder / f"ablation-{axis}.png"))
    return written


def new_figure(columns: int = 1) -> tuple[Any, list[Any]]:
    """An empty figure and its panels, side by side.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Drawing needs matplotlib; run: pip install matplotlib") from error
    figure = Figure(figsize=(1 + 6 * columns, 4.5), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False).flat)


def bars(found: Estimate) -> list[list[float]]:
    """Lengths of the error bar below and above the mean."""
    low, high = (found.mean if end is None else end for end in (found.low, found.high))
    return [[found.mean - low], [high - found.mean]]


def _accuracy_against_compute(everything: Sequence[Group], path: Path) -> Path:
    fractions = sorted({group.label_fraction for group in everything}, reverse=True)
    figure, panels = new_figure(len(fractions))
    for panel, fraction in zip(panels, fractions, strict=True):
        for group in everything:
            training, encoding = group.mean("compute", "cpu_seconds"), group.mean("compute", "feature_cpu_seconds")
            accuracy = group.mean("accuracy")
            if group.label_fraction != fraction or group.change or None in (training, encoding, accuracy):
                continue
            assert training and encoding and accuracy  # noqa: PT018 -- for the type checker
            seconds = max(training.mean + encoding.mean, 1e-2)
            panel.errorbar([seconds], [accuracy.mean], yerr=bars(accuracy), fmt="o", capsize=3)
            panel.annotate(
                group.method, (seconds, accuracy.mean), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        panel.set(xscale="log", xlabel="CPU seconds, features included", ylabel="test accuracy")
        panel.set_title(f"{100 * fraction:.3g}% of the images labelled")
    figure.savefig(path, dpi=120)
    return path


def _labels(usual: Sequence[Group], path: Path) -> Path:
    lines: dict[str, list[tuple[Any, Group]]] = defaultdict(list)
    for group in sorted(usual, key=lambda g: g.label_fraction):
        lines[group.method].append((group.label_fraction, group))
    figure, (panel,) = new_figure()
    _lines(panel, {line: points for line, points in lines.items() if len(points) > 1})
    panel.set(xscale="log", xlabel="share of images labelled", ylabel="test accuracy")
    figure.savefig(path, dpi=120)
    return path


def _ablation(axis: str, lines: dict[str, list[tuple[Any, Group]]], path: Path) -> Path:
    figure, (panel,) = new_figure()
    _lines(panel, lines)
    panel.set(xlabel=axis.replace("_", " "), ylabel="test accuracy")
    values = [value for points in lines.values() for value, _ in points]
    if all(isinstance(value, int | float) and value > 0 for value in values) and max(values) >= 8 * min(values):
        panel.set_xscale("log")
    figure.savefig(path, dpi=120)
    return path


def _lines(panel: Any, lines: dict[str, list[tuple[Any, Group]]]) -> None:
    for line, points in lines.items():
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in points)
        found = [(value if numbers else str(value), group.mean("accuracy")) for value, group in points]
        places = [place for place, accuracy in found if accuracy]
        estimates = [accuracy for _, accuracy in found if accuracy]
        spread = [[bar[0] for bar in side] for side in zip(*(bars(e) for e in estimates), strict=True)]
        panel.errorbar(
            places, [e.mean for e in estimates], yerr=spread, fmt="o-" if numbers else "o", capsize=3, label=line
        )
    panel.legend(fontsize=7)
