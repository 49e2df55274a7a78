"""A first guess without pairs: cluster each side, and match the clusters by how they lie to each other."""

import numpy as np
import torch
from scipy.optimize import quadratic_assignment
from torch import Tensor

from ..metrics.neighbours import normalise


def kmeans(x: Tensor, clusters: int, generator: torch.Generator, iterations: int = 15) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a k-means++ start: points (N, D) -> centres (K, D), and the share of points of each (K,).

    Source: Arthur & Vassilvitskii 2007.
    """
    if len(x) < clusters:
        raise ValueError(f"k-means needs at least {clusters} points for {clusters} clusters, got {len(x)}")
    first = int(torch.randint(len(x), (1,), generator=generator))
    centres, distance = x[first][None], (x - x[first]).square().sum(1)
    for _ in range(clusters - 1):
        weights = distance.cpu().double().clamp_min(0) + 1e-300
        pick = int(torch.multinomial(weights / weights.sum(), 1, generator=generator))
        centres = torch.cat([centres, x[pick][None]])
        distance = torch.minimum(distance, (x - x[pick]).square().sum(1))
    for _ in range(iterations):
        labels = torch.cdist(x, centres).argmin(1)
        counts = torch.bincount(labels, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, labels, x)
        # A cluster that lost its points keeps its centre.
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    counts = torch.bincount(torch.cdist(x, centres).argmin(1), minlength=clusters)
    return centres, counts / len(x)


def match_by_structure(first: Tensor, second: Tensor, rng: np.random.Generator, starts: int) -> tuple[Tensor, float]:
    r"""Match two sets of points of any widths by their inner products: a quadratic assignment.

    $$ \max_\pi \frac{\langle K, L_{\pi\pi}\rangle}{\|K\|_F \|L\|_F}, \quad
       K, L \text{ the centred Gram matrices} $$

    Returns:
        Row of `second` (K, Dy) for each row of `first` (K, Dx), long, and the alignment reached by the best of the
        solver's starts, at most 1.

    Source: Schnaus et al. 2025, "It's a (Blind) Match!"; solved by SciPy's FAQ, Vogelstein et al. 2015.
    """
    grams = []
    for points in (first, second):
        centred = (points - points.mean(0)).double()
        gram = centred @ centred.T
        grams.append((gram / gram.norm().clamp_min(1e-300)).cpu().numpy())
    best_value, best = -np.inf, np.arange(len(first))
    for trial in range(starts):
        options = {"rng": rng, "maximize": True}
        start = {"P0": "barycenter" if trial == 0 else "randomized"}
        found = quadratic_assignment(*grams, method="faq", options=options | start)
        guess = {"partial_guess": np.stack([np.arange(len(first)), found.col_ind], axis=1)}
        polished = quadratic_assignment(*grams, method="2opt", options=options | guess)
        if polished.fun > best_value:
            best_value, best = float(polished.fun), polished.col_ind
    return torch.as_tensor(best, dtype=torch.long), best_value


def cluster_cross_moments(x: Tensor, y: Tensor, *, clusters: int, restarts: int, seed: int) -> list[Tensor]:
    """Guess cross-covariances (Dx, Dy) of unpaired points from clusters matched by structure, best match first.

    Args:
        x, y: Centred points, (N, Dx) and (M, Dy), float64.
        clusters: Clusters a side.
        restarts: Number of guesses, each from its own k-means.
        seed: Of all randomness.

    Source: Dar et al. 2025 (mini-vec2vec): clusters, quadratic assignment, restarts.
    """
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    x, y = normalise(x), normalise(y)
    guesses = []
    for _ in range(restarts):
        left, share = kmeans(x, clusters, generator)
        right, _ = kmeans(y, clusters, generator)
        order, value = match_by_structure(left, right, rng, starts=3)
        weight = share.double().to(left)[:, None]
        centred = left - (weight * left).sum(0), right[order] - (weight * right[order]).sum(0)
        guesses.append((value, (weight * centred[0]).T @ centred[1]))
    return [cross for _, cross in sorted(guesses, key=lambda guess: -guess[0])]
