"""Which cells a benchmark consists of: methods, label fractions, seeds, and one axis varied at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..baselines import EXPENSIVE, METHODS, Recipe, get_method
from .cell import Cell


# A quarter of an hour or less on one core: few images, few steps, the rows that the central question needs.
REDUCED = {
    "max_images": 400,
    "max_test_questions": 1000,
    "batch_size": 64,
    "epochs": 1.0,
    "min_steps": 60,
    "align_min_steps": 40,
    "max_steps": 60,
}
REDUCED_METHODS = ("most_frequent", "question_only", "no_alignment", "merged", "joint")
REDUCED_SEEDS = 2


def grid(
    methods: Sequence[str] | None = None,
    seeds: int | None = None,
    label_fractions: Sequence[float] = (1.0,),
    settings: Mapping[str, Any] | None = None,
    sweeps: Mapping[str, Sequence[Any]] | None = None,
    reduced: bool = False,
    suite: str = "easy-vqa",
) -> list[Cell]:
    """List the cells, cheap methods first, whole seeds one after the other.

    Args:
        methods: Names; all (the reduced suite's) if None.
        seeds: 0 to seeds - 1; 3 (reduced: 2) if None.
        label_fractions: Of the training images.
        settings: Choices of the recipe that all cells share.
        sweeps: Axis -> values; each axis is varied by itself around `settings`.
        reduced: Start from the small recipe.
        suite: Name of the suite.

    Raises:
        ValueError: If a method or choice is unknown.

    Example:
        >>> cells = grid(["merged"], seeds=1, sweeps={"shared_dim": [64, 128], "epsilon": [0.1]})
        >>> [(cell.recipe.shared_dim, cell.recipe.epsilon) for cell in cells]
        [(64, 0.05), (128, 0.05), (128, 0.1)]
    """
    methods = list(methods or (REDUCED_METHODS if reduced else METHODS))
    for name in methods:
        get_method(name)
    if suite != "easy-vqa":
        raise ValueError(f"`suite` is {suite!r}; expected easy-vqa.")
    count = seeds if seeds is not None else REDUCED_SEEDS if reduced else 3
    if count < 1:
        raise ValueError(f"`seeds` is {count}; expected at least 1.")
    base: dict[str, Any] = (REDUCED if reduced else {}) | dict(settings or {})
    varied = [{axis: value} for axis, values in (sweeps or {}).items() for value in values] or [{}]
    cells = [
        Cell(method, Recipe(**(base | change | {"seed": seed, "label_fraction": fraction})), suite)
        for late in (False, True)
        for seed in range(count)
        for fraction in label_fractions
        for change in varied
        for method in methods
        if (method in EXPENSIVE) == late
    ]
    return list(dict.fromkeys(cells))
