"""Before any fit: what do two frozen encoders share, in which layers, and which fit suits?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..metrics.neighbours import check_vectors
from ..metrics.retrieval import check_pairs
from ..metrics.similarity import hsic, neighbour_overlap, neighbour_sets
from .base import one_to_one, unpaired_rows
from .cca import CCA
from .forecasting import LEAST_FORECAST, Forecast, forecast
from .moment_fit import MomentFit
from .procrustes import Procrustes
from .recommendations import Recommendation, recommend
from .ridge import Ridge


Features = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
LEAST_PAIRS = 20
# Held-out Recall@1 below this many times chance counts as "share little".
LITTLE = 3.0
# Among so many candidates recall is forecast.
CANDIDATES = 1000


class LayerPair(NamedTuple):
    """How alike one context layer and one query layer are over the sampled pairs.

    Attributes:
        context_layer: Its name.
        query_layer: Its name.
        cka: Debiased linear CKA, at most 1; about 0 for unrelated layers.
        cka_baseline: Largest value over the shuffled pairs; `knn_baseline` likewise.
        mutual_knn: Overlap of the k nearest neighbours, in [0, 1].
    """

    context_layer: str
    query_layer: str
    cka: float
    cka_baseline: float
    mutual_knn: float
    knn_baseline: float


@dataclass(frozen=True)
class PreflightReport:
    """What [`preflight`] found; `str()` of it is a page to read.

    Attributes:
        layers: All layer pairs, best first.
        best: The recommended one: the highest mutual k-NN.
        above_chance: Whether the best mutual k-NN beats the best of every shuffle over *all* layer pairs
            (choosing the best of many pairs would beat a single shuffle by luck).
        held_out: Mean Recall@1 of each closed form at the best layers, fitted on half of the sampled pairs
            and scored on the other half, in [0, 1].
        chance: Recall@1 of guessing among the same candidates.
        share_little: True when nothing beats the shuffles, or no closed form reaches three times chance.
        n_pairs: Pairs available.
        n_sampled: Pairs looked at.
        recommendation: Fit and loss terms for so many pairs and unpaired rows.
        forecast: Recall at the best layers among 1,000 candidates; None below 40 sampled pairs.
    """

    layers: list[LayerPair]
    best: LayerPair
    above_chance: bool
    held_out: dict[str, float]
    chance: float
    share_little: bool
    n_pairs: int
    n_sampled: int
    recommendation: Recommendation
    forecast: Forecast | None = None

    def __str__(self) -> str:
        head = f"{'context layer':>14} {'query layer':>12} {'CKA':>7} {'shuffled':>9} {'k-NN':>7} {'shuffled':>9}"
        rows = [
            f"{pair.context_layer:>14} {pair.query_layer:>12} {pair.cka:7.3f} {pair.cka_baseline:9.3f} "
            f"{pair.mutual_knn:7.3f} {pair.knn_baseline:9.3f}"
            for pair in self.layers[:8]
        ]
        held_out = ", ".join(f"{name} {value:.3f}" for name, value in self.held_out.items())
        found = f"structure: {max(self.held_out.values()) / self.chance:.0f} times chance."
        if self.share_little:
            why = "closed forms hardly beat guessing" if self.above_chance else "no layer pair beats shuffled pairs"
            found = (
                f"little: {why}. Alignment has little to start from; expect the task loss to do the work, "
                "or try other layers or encoders."
            )
        lines = [
            f"Pre-flight over {self.n_sampled} of {self.n_pairs} pairs",
            head,
            *rows,
            f"Recommended layers: context {self.best.context_layer}, query {self.best.query_layer}",
            f"Held-out Recall@1 of closed forms there: {held_out} (chance {self.chance:.3f})",
            f"These two encoders share {found}",
            *([] if self.forecast is None else [str(self.forecast)]),
            str(self.recommendation),
        ]
        return "\n".join(lines)


def preflight(
    context_features: Features,
    query_features: Features,
    pairs: Any = None,
    *,
    k: int = 10,
    max_pairs: int = 1000,
    shuffles: int = 20,
    seed: int = 0,
) -> PreflightReport:
    """Measure what two encoders share, layer by layer, against shuffled pairs, and recommend a fit.

    Args:
        context_features, query_features: Pooled features, (N, Dc) and (M, Dq), of one layer, a list of layers, or a
            dictionary by name.
        pairs: (P, 2) long, or None for row i with row i; at least 20. Rows that no pair names are unpaired: they
            count for the recommendation.
        k: Neighbours of the mutual k-NN; lowered to a quarter of the sampled pairs.
        max_pairs: Most pairs looked at (time and memory grow with the square).
        shuffles: Shuffled pairings behind the baselines.
        seed: Of the sample and the shuffles.

    Raises:
        ValueError: If features or pairs are malformed, layers of a side differ in rows, or pairs are too few.

    Example:
        >>> x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
        >>> report = preflight({"noise": torch.rand(100, 4), "same": x.flip(1)}, x)
        >>> report.best.context_layer, report.share_little
        ('same', False)

    Source: Huh et al. 2024 (mutual k-NN); Kornblith et al. 2019 (CKA).
    """
    sides = [_layers("context_features", context_features), _layers("query_features", query_features)]
    sizes = [len(next(iter(side.values()))) for side in sides]
    known = check_pairs(pairs, *sizes)
    index = one_to_one(known, seed)
    if len(index) < LEAST_PAIRS:
        raise ValueError(
            f"preflight needs at least {LEAST_PAIRS} pairs of distinct rows, got {len(index)}: "
            "below that no measure can tell shared structure from luck"
        )
    sample, n = index[:max_pairs], min(len(index), max_pairs)
    k = max(1, min(k, n // 4))
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=generator) for _ in range(shuffles)]
    grams, neighbours = [], []
    for column, side in zip(sample.T, sides, strict=True):
        centred = {name: _centred(x[column.to(x.device)]) for name, x in side.items()}
        products = {name: x @ x.T for name, x in centred.items()}
        grams.append({name: gram / max(hsic(gram, gram), 1e-300) ** 0.5 for name, gram in products.items()})
        neighbours.append({name: neighbour_sets(x, k) for name, x in centred.items()})
    layers = []
    for left, right in product(*sides):
        cka = _against_shuffles(_cka, grams[0][left], grams[1][right], orders)
        knn = _against_shuffles(_overlap, neighbours[0][left], neighbours[1][right], orders)
        layers.append(LayerPair(left, right, *cka, *knn))
    layers.sort(key=lambda pair: -pair.mutual_knn)
    best = layers[0]
    above_chance = best.mutual_knn > max(pair.knn_baseline for pair in layers)
    chosen = sides[0][best.context_layer], sides[1][best.query_layer]
    held_out, chance = _held_out(*(side[column] for side, column in zip(chosen, sample.T, strict=True)))
    seen = None
    if n >= LEAST_FORECAST:
        seen = forecast(*chosen, known, candidates=CANDIDATES, max_pairs=max_pairs, seed=seed)
    advice = recommend(len(known), unpaired=min(len(rows) for rows in unpaired_rows(known, *sizes)))
    little = not above_chance or max(held_out.values()) < LITTLE * chance
    return PreflightReport(layers, best, above_chance, held_out, chance, little, len(known), n, advice, seen)


def _layers(name: str, features: Features) -> dict[str, Tensor]:
    features = features if isinstance(features, Mapping | Sequence) else [features]
    given = features.items() if isinstance(features, Mapping) else enumerate(features)
    layers = {str(key): check_vectors(f"{name}[{str(key)!r}]", value) for key, value in given}
    if not layers:
        raise ValueError(f"{name} has no layer")
    rows = {key: len(value) for key, value in layers.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"{name} must have the same rows in every layer, got {rows}")
    return layers


def _centred(x: Tensor) -> Tensor:
    # Standardised, as the model standardises: one loud dimension must not decide who is near whom.
    x = x.double().cpu()  # the shuffles below are made there, and the sample is small
    return (x - x.mean(0)) / x.std(0).clamp_min(1e-12)


def _against_shuffles(
    measure: Callable[[Tensor, Tensor, Tensor], float], x: Tensor, y: Tensor, orders: list[Tensor]
) -> tuple[float, float]:
    """What a measure says of the pairs, and at most of any shuffle of them."""
    return measure(x, y, torch.arange(len(x))), max(measure(x, y, order) for order in orders)


def _cka(x: Tensor, y: Tensor, order: Tensor) -> float:
    """Debiased CKA of two Gram matrices of unit HSIC when row i goes with row order[i]."""
    return hsic(x, y[order][:, order])


def _overlap(x: Tensor, y: Tensor, order: Tensor) -> float:
    """Overlap of two lists of neighbours, those of the query renamed by the inverse of the order."""
    return neighbour_overlap(x, torch.argsort(order)[y[order]])


def _held_out(context: Tensor, query: Tensor) -> tuple[dict[str, float], float]:
    """Mean Recall@1 of each closed form over two halves (fit on one, score on the other), and chance."""
    context, query = _centred(context), _centred(query)
    half = len(context) // 2
    halves = [(context[rows], query[rows]) for rows in (slice(half), slice(half, 2 * half))]
    fits: list[MomentFit] = [Ridge(), Procrustes(), CCA(regularization=1.0)]
    scores = {
        type(fit).__name__: (fit.fit(*halves[0]).score(*halves[1]) + fit.fit(*halves[1]).score(*halves[0])) / 2
        for fit in fits
    }
    return scores, 1 / half
