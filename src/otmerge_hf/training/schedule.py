"""Numbers that change over training: weights and epsilons."""

import math
from collections.abc import Sequence


# A number, or points (progress, value) with progress from 0 to 1; plain data, so that checkpoints can hold it.
Schedule = float | Sequence[Sequence[float]]


def value_at(schedule: Schedule, progress: float, geometric: bool = False, name: str = "schedule") -> float:
    """Value of a schedule at a point of training.

    Args:
        schedule: A number, or points `[(progress, value), ...]` joined by straight lines, constant outside.
        progress: Fraction of training done, in [0, 1].
        geometric: Interpolate the logarithm, as annealing wants it; values must be positive.
        name: Of the argument that is a schedule, for the messages.

    Raises:
        ValueError: If it is neither a finite number nor such points, or they are not in order, or not positive where
            they must be.

    Example:
        >>> value_at([(0.0, 1.0), (0.5, 0.0)], 0.25)
        0.5
        >>> round(value_at([(0.0, 1.0), (1.0, 0.01)], 0.5, geometric=True), 6)
        0.1
    """
    try:
        given = [(0.0, schedule)] if isinstance(schedule, (int, float)) else schedule
        points = [(float(at), float(value)) for at, value in given]
    except (TypeError, ValueError):
        points = []
    if not points or not all(math.isfinite(number) for point in points for number in point):
        expected = "a finite number, or points [(progress, value), ...] of such"
        raise ValueError(f"`{name}` is {schedule!r}; expected {expected}.")
    if any(a > b for (a, _), (b, _) in zip(points, points[1:], strict=False)):
        raise ValueError(f"`{name}` is {schedule!r}; expected points of rising progress.")
    if geometric and min(value for _, value in points) <= 0:
        raise ValueError(f"`{name}` is {schedule!r}; expected positive values.")
    if progress <= points[0][0]:
        return points[0][1]
    for (left, start), (right, end) in zip(points, points[1:], strict=False):
        if progress < right:
            share = (progress - left) / (right - left)
            if geometric:
                return math.exp((1 - share) * math.log(start) + share * math.log(end))
            return (1 - share) * start + share * end
    return points[-1][1]
