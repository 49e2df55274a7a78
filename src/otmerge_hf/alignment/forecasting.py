"""What recall a closed form will reach among N candidates, and with how many pairs: forecast from few pairs alone."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..metrics.neighbours import normalise
from .base import Alignment, check_fit, one_to_one, unpaired_rows
from .binormal import extrapolate
from .cca import CCA
from .moment_fit import MomentFit
from .moments import paired_moments
from .procrustes import Procrustes
from .ridge import Ridge


LEAST_FORECAST = 40
# Mean absolute error of Recall@1 by times the pairs at hand, with at most so many pairs and with more; from
# benchmarks/results/forecast, whose test compares them.
FEW = 200
ERRORS_OF_FEW = {1: 0.05, 2: 0.06, 4: 0.08}
ERRORS_OF_MORE = {1: 0.01, 2: 0.02, 4: 0.04}
# How far beyond the pairs at hand the learning curve is read.
FARTHEST = 8
# (share of the pairs that a fit sees, number of such fits); what it does not see gives the distractors.
_SHARES = ((0.25, 2), (0.5, 2), (0.75, 4))
_MOST_UNPAIRED = 2000


class Needed(NamedTuple):
    """Pairs that a recall needs, with a 90% interval; `high` is infinite where the curve may never reach it."""

    pairs: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What [`forecast`] found; `str()` of it is three lines to read.

    Attributes:
        fit: The closed form of the best forecast.
        pairs: Pairs at hand, n.
        candidates: N, among which the partner is looked for.
        recall: Recall@k by k, with all n pairs, the mean of both directions, in [0, 1].
        low: 5% quantile of Recall@1. It knows what the pairs leave open and not how wrong the model is: it is too
            narrow, `docs/forecast.md` says by how much.
        high: 95% quantile.
        by_fit: Recall@1 of every closed form.
    """

    fit: str
    pairs: int
    candidates: int
    recall: dict[int, float]
    low: float
    high: float
    by_fit: dict[str, float]
    # (draws, 2): logit of Recall@1 with n pairs, and its rise to come
    _lines: Tensor = field(repr=False, compare=False)

    def with_pairs(self, pairs: int) -> float:
        """Recall@1 with another number of pairs, at most 8 times those at hand.

        Raises:
            ValueError: If it is more, or none.
        """
        if not 0 < pairs <= FARTHEST * self.pairs:
            raise ValueError(
                f"pairs is {pairs}; expected 1 to {FARTHEST * self.pairs}, {FARTHEST} times those at hand"
            )
        level, rise = self._lines.T
        return float((level + rise * (1 - (self.pairs / pairs) ** 0.5)).median().sigmoid())

    def needed(self, recall: float) -> Needed | None:
        """Pairs that a Recall@1 needs; None where that is more than 8 times those at hand.

        Raises:
            ValueError: If `recall` is not between 0 and 1.
        """
        if not 0 < recall < 1:
            raise ValueError(f"recall is {recall}; expected a number between 0 and 1")
        level, rise = self._lines.T
        gap = math.log(recall / (1 - recall)) - level
        # 1 - share^(1/2), share the pairs at hand by those needed: 1 and more is out of reach, as is a fall's rise.
        part = torch.where(rise > 0, gap / rise.clamp_min(1e-9), gap.sign() * math.inf)
        times = torch.where(part < 1, (1 - part.clamp_max(1)) ** -2.0, math.inf)
        low, middle, high = (times.quantile(q, interpolation="nearest").item() for q in (0.05, 0.5, 0.95))
        return None if middle > FARTHEST else Needed(*(self.pairs * value for value in (middle, low, high)))

    def __str__(self) -> str:
        errors = ERRORS_OF_FEW if self.pairs <= FEW else ERRORS_OF_MORE
        later = (
            f"{self.with_pairs(times * self.pairs):.2f} +- {errors[times]} with {times} times as many"
            for times in (2, 4)
        )
        needed = self.needed(0.5)
        half = f"more than {FARTHEST * self.pairs:,}" if needed is None else f"about {needed.pairs:,.0f}"
        return (
            f"Forecast among {self.candidates:,} candidates (chance {1 / self.candidates:.4f}), {self.fit}:\n"
            f"  Recall@1 {self.recall[1]:.2f} +- {errors[1]} with these {self.pairs:,} pairs, "
            f"{', '.join(later)}; 0.5 needs {half} pairs.\n"
            "  (+- is the mean absolute error on eight feature sets, docs/forecast.md; new rows must be like these.)"
        )


def forecast(
    context: Tensor,
    query: Tensor,
    pairs: Any = None,
    *,
    candidates: int,
    ks: tuple[int, ...] = (1, 5, 10),
    max_pairs: int = 2000,
    seed: int = 0,
) -> Forecast:
    r"""Forecast retrieval among N candidates from n pairs alone.

    Closed forms are fitted on a quarter, a half and three quarters of the pairs. Of a pair held out, a of m
    distractors score at least as high as the partner. With a share $p$ of all distractors doing so, a is binomial;
    $$ R@k = \mathbb E_p \sum_{j<k} \binom{N-1}{j} p^j (1-p)^{N-1-j}. $$
    It is counted up to N = m + 1, and carried on by a model in which $\Phi^{-1}(1 - p)$ is normal over pairs.
    The logit of R@k is a line in one over the root of the pairs, and read at n.

    Args:
        context, query: Features, (N, Dc) and (M, Dq); they are standardised here. Rows without a pair are distractors.
        pairs: (P, 2) long; None: row i with row i. Those of distinct rows count, at least 40.
        candidates: N, at least 2, the partner among them.
        ks: Depths of recall.
        max_pairs: Most pairs looked at, n; time grows with the square.
        seed: Of the order of the pairs.

    Raises:
        ValueError: If features or pairs are malformed, or pairs or candidates too few.

    Example:
        >>> x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
        >>> found = forecast(x, x.flip(1) + x.roll(1, 1), candidates=1000)
        >>> found.recall[1] > 0.9
        True

    Source: binormal model of signal detection (Green & Swets 1966); accuracy with more classes from
    fewer: Zheng, Achanta & Benjamini 2018. How far off it is: `docs/forecast.md`.
    """
    context, query, known = check_fit("forecast", context, query, pairs, LEAST_FORECAST)
    index = one_to_one(known, seed)[:max_pairs]
    if len(index) < LEAST_FORECAST:
        raise ValueError(f"forecast needs at least {LEAST_FORECAST} pairs of distinct rows, got {len(index)}")
    if candidates < 2:
        raise ValueError(f"candidates is {candidates}; expected at least 2, the partner and another")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks is {ks}; expected depths of at least 1")
    free = unpaired_rows(known, len(context), len(query))
    paired, unpaired = [], []
    for side, column, rows in zip((context, query), index.T, free, strict=True):
        centred = (side - side.mean(0)) / side.std(0).clamp_min(1e-6)
        paired.append(centred[column])
        unpaired.append(centred[rows[:_MOST_UNPAIRED]])
    depths = sorted({1, *ks})
    generator = torch.Generator().manual_seed(seed)
    lines: dict[str, Tensor] = {}  # (depths, draws, 2)
    fits = closed_forms()
    above = {  # (fits, directions) of counts, by share
        share: [_above(fits, paired, unpaired, round(share * len(index)), turn / turns) for turn in range(turns)]
        for share, turns in _SHARES
    }
    for place, fit in enumerate(fits):
        logits, roots = [], []
        for share, _ in _SHARES:
            size = round(share * len(index))
            others = [len(index) - size - 1 + len(rows) for rows in reversed(unpaired)]
            counted = zip(*(turn[place] for turn in above[share]), strict=True)
            sides = [
                extrapolate(torch.cat(counts), m, candidates, depths, generator)
                for counts, m in zip(counted, others, strict=True)
            ]
            logits.append(((sides[0] + sides[1]) / 2).logit(1e-9))
            roots.append(1 - (len(index) / size) ** 0.5)
        lines[repr(fit)] = _line(torch.tensor(roots, dtype=torch.float64), torch.stack(logits))
    level = {name: found[..., 0].sigmoid().cummax(0).values for name, found in lines.items()}  # (depths, draws)
    by_fit = {name: float(found[0].median()) for name, found in level.items()}
    best = max(by_fit, key=lambda name: by_fit[name])
    recall = {k: float(found.median()) for k, found in zip(depths, level[best], strict=True)}
    low, high = (float(level[best][0].quantile(q)) for q in (0.05, 0.95))
    return Forecast(best, len(index), candidates, recall, low, high, by_fit, lines[best][0])


def closed_forms() -> list[MomentFit]:
    """Make the closed forms among which the best is forecast."""
    return [Ridge(), Ridge(target="context"), Procrustes(), CCA(regularization=1.0)]


def _above(
    fits: list[MomentFit], paired: list[Tensor], unpaired: list[Tensor], size: int, start: float
) -> list[list[Tensor]]:
    """Fit each on `size` pairs and count, for each of the others and by direction, distractors that score no less."""
    order = torch.arange(len(paired[0])).roll(-round(start * len(paired[0])))
    context, query = paired
    moments = paired_moments(context, query, order[:size, None].expand(-1, 2))  # once for all fits
    dtype = torch.promote_types(context.dtype, query.dtype)
    return [_counts(fit.fit_moments(moments, dtype), paired, unpaired, order[size:]) for fit in fits]


def _counts(fit: Alignment, paired: list[Tensor], unpaired: list[Tensor], held: Tensor) -> list[Tensor]:
    maps = fit.transform_context, fit.transform_query
    shared = [normalise(f(side[held])) for f, side in zip(maps, paired, strict=True)]
    rest = [normalise(f(side)) for f, side in zip(maps, unpaired, strict=True)]
    counts = []
    for own, other, more in ((shared[0], shared[1], rest[1]), (shared[1], shared[0], rest[0])):
        scores = own @ torch.cat([other, more]).T  # (held out, distractors and the partner)
        counts.append((scores >= scores.diagonal()[:, None]).sum(1) - 1)
    return counts


def _line(x: Tensor, y: Tensor) -> Tensor:
    """Least squares of y (S, depths, draws) on x (S,): the value at 0, n pairs, and the slope, (depths, draws, 2)."""
    centred = x - x.mean()
    slope = torch.einsum("s,skd->kd", centred, y) / (centred**2).sum()
    return torch.stack([y.mean(0) - slope * x.mean(), slope], dim=-1)
