"""Mean, standard error and Student's interval of a few seeds; nothing beyond the standard library."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: In the values' unit.
        error: Standard error, s / sqrt(n); None for one value.
        low: Lower end of the 95% t interval; None for one value.
        high: Upper end.
        count: n.
    """

    mean: float
    error: float | None
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    r"""Mean and two-sided t interval.

    $$\bar x \pm t_{n-1, (1 + \text{level}) / 2} \, s / \sqrt n$$

    Args:
        values: One a seed.
        level: Coverage, in (0, 1).

    Raises:
        ValueError: If there are no values.

    Example:
        >>> e = estimate([1.0, 2.0, 3.0])
        >>> round(e.mean, 3), round(e.error, 4), round(e.high, 3)
        (2.0, 0.5774, 4.484)

    Source: Student 1908; checked against `scipy.stats.t`.
    """
    if not values:
        raise ValueError("`values` is empty; expected at least one.")
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None, None, 1)
    error = statistics.stdev(values) / math.sqrt(len(values))
    margin = t_quantile((1 + level) / 2, len(values) - 1) * error
    return Estimate(mean, error, mean - margin, mean + margin, len(values))


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Interval of ours minus theirs over the seeds that both have; None if they share none.

    Example:
        >>> paired_difference({0: 0.9, 1: 0.8}, {0: 0.8, 1: 0.7, 2: 0.1}).count
        2
    """
    seeds = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in seeds]) if seeds else None


@cache
def t_quantile(share: float, freedom: int) -> float:
    """Value that Student's t with `freedom` degrees stays below with probability `share` in [0.5, 1).

    By bisection of the distribution function, itself by Simpson's rule.

    Example:
        >>> round(t_quantile(0.975, 2), 4)
        4.3027
    """
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def _t_below(value: float, freedom: int, panels: int = 400) -> float:
    # t = tan(angle) sqrt(freedom) maps the half line on a finite one, where the density is a power of the cosine
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    end = math.atan(value / math.sqrt(freedom))
    step = end / panels
    weights = [1 if i in (0, panels) else 4 if i % 2 else 2 for i in range(panels + 1)]
    total = sum(w * math.cos(i * step) ** (freedom - 1) for i, w in enumerate(weights))
    return 0.5 + scale * total * step / 3
