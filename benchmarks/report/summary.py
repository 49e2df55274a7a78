"""Results of cells -> groups over seeds: what a row of the table or a point of a plot stands for."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..methods import METHODS
from ..runner.cell import Record
from .intervals import Estimate, estimate, paired_difference


CONTROL = "no_alignment"
_NOT_AN_AXIS = ("seed", "label_fraction")


@dataclass(frozen=True)
class Group:
    """Cells that differ by their seed alone.

    Attributes:
        method: Name.
        label_fraction: Of the training images.
        change: Choices that differ from what most cells have, as (name, value).
        cells: The results.
    """

    method: str
    label_fraction: float
    change: tuple[tuple[str, Any], ...]
    cells: tuple[Record, ...]

    @property
    def name(self) -> str:
        """Method and what is changed about it."""
        changes = ", ".join(f"{name}={value}" for name, value in self.change)
        return f"{self.method} ({changes})" if changes else self.method

    def values(self, read: Callable[[Record], float | None]) -> dict[int, float]:
        """What `read` finds, by seed; seeds without it are left out."""
        found = {cell["settings"]["recipe"]["seed"]: read(cell) for cell in self.cells}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, *path: str) -> Estimate | None:
        """Estimate of a number by its place in the JSON; None where no cell has it."""
        values = list(self.values(lambda cell: look_up(cell, *path)).values())
        return estimate(values) if values else None


def look_up(cell: Record, *path: str) -> Any:
    """Value at a place in nested JSON, or None.

    Example:
        >>> look_up({"a": {"b": 1}}, "a", "b"), look_up({}, "a", "b")
        (1, None)
    """
    value: Any = cell
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def usual_choices(results: Iterable[Record]) -> dict[str, Any]:
    """The most frequent value of every choice but seed and label fraction."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for result in results:
        for name, value in result["settings"]["recipe"].items():
            if name not in _NOT_AN_AXIS:
                counts[name][value] += 1
    return {name: values.most_common(1)[0][0] for name, values in counts.items()}


def groups(results: Sequence[Record]) -> list[Group]:
    """Cells by method, label fraction and change, in the order of the methods; those not applicable are left out."""
    usual = usual_choices(results)
    found: dict[Any, list[Record]] = defaultdict(list)
    for result in results:
        if "refused" in result:
            continue
        recipe = result["settings"]["recipe"]
        change = tuple((name, recipe[name]) for name in sorted(usual) if recipe[name] != usual[name])
        found[result["settings"]["method"], recipe["label_fraction"], change].append(result)
    order = list(METHODS)
    made = [Group(method, fraction, change, tuple(cells)) for (method, fraction, change), cells in found.items()]
    return sorted(made, key=lambda g: (-g.label_fraction, order.index(g.method), len(g.change), str(g.change)))


def against_control(group: Group, everything: Sequence[Group]) -> Estimate | None:
    """Difference to the control's accuracy, seed by seed; None for the control itself.

    The control of the same choices, or of the usual ones if there is none.
    """
    if group.method == CONTROL:
        return None
    for change in (group.change, ()):
        for other in everything:
            if (other.method, other.label_fraction, other.change) == (CONTROL, group.label_fraction, change):
                return paired_difference(group.values(_accuracy), other.values(_accuracy))
    return None


def ablations(everything: Sequence[Group]) -> dict[str, dict[str, list[tuple[Any, Group]]]]:
    """Axis -> line (method and label fraction) -> groups that differ along this axis alone, by its value.

    Only axes that some line follows for two values or more.
    """
    usual = usual_choices(cell for group in everything for cell in group.cells)
    axes = {name for group in everything for name, _ in group.change}
    found: dict[str, dict[str, list[tuple[Any, Group]]]] = {}
    for axis in sorted(axes):
        lines: dict[str, list[tuple[Any, Group]]] = defaultdict(list)
        for group in everything:
            if {name for name, _ in group.change} <= {axis}:
                value = dict(group.change).get(axis, usual[axis])
                lines[f"{group.method}, {group.label_fraction:.0%} of labels"].append((value, group))
        kept = {line: points for line, points in lines.items() if len(points) > 1}
        if kept:
            found[axis] = {line: sorted(points, key=_order) for line, points in kept.items()}
    return found


def _order(point: tuple[Any, Group]) -> tuple[bool, Any]:
    return isinstance(point[0], str), point[0]  # numbers first: 11 and "pooled" are values of one axis


def _accuracy(cell: Record) -> float:
    return float(cell["accuracy"])
