"""Few or no pairs: guess from matched clusters, then match whole batches one to one and rotate, in turns."""

from typing import Any, Self

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..metrics.neighbours import check_vectors, normalise
from .base import Alignment, check_fit, check_least, check_shared_dim, unpaired_rows
from .clusters import cluster_cross_moments
from .moments import mean_of, paired_moments
from .procrustes import procrustes_weights


class WassersteinProcrustes(Alignment):
    r"""Orthogonal maps that make two unpaired clouds overlap, started from their inner structure.

    $$ \min_{W_x, W_y \text{ semi-orthogonal},\; \pi} \sum_i |W_x x_i - W_y y_{\pi(i)}|^2 $$

    1. *Start:* k-means on each side; the clusters are matched by quadratic assignment on their Gram matrices.
       The cross-covariances of all restarts, their mean, and that of the pairs (if any) each give a start.
    2. *Choice:* each start is refined for a few rounds; the one whose matched batch costs least is kept.
    3. *Refinement:* assign a batch of either side one to one (exactly), solve Procrustes, repeat.

    It needs clouds whose shape is alike and not symmetric, and thousands of points; on small clouds expect
    chance level, and look at `costs_`. Pairs, when given, keep the weight `pair_weight` in every step.

    Args:
        shared_dim: Width of the shared space; None takes the narrower side's, the most there is.
        clusters: Clusters a side.
        restarts: Clusterings tried.
        iterations: Rounds of refinement.
        batch_size: Points a side in one assignment (its time grows about cubically).
        pair_weight: Weight of the pairs' moment in each step, in [0, 1).
        seed: Of all randomness.

    Attributes:
        costs_: Matched cost (1 - cosine, mean over a fixed batch) of every start after its short refinement,
            lowest first, then that of the final map. Starts of nearly equal cost mean that the shape decides
            nothing.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> centres = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 7, 0], [1, 2, 9]])
        >>> x = centres[torch.randint(0, 4, (400,), generator=generator)] + torch.rand(400, 3, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
        >>> fit = WassersteinProcrustes(clusters=8, restarts=3).fit(x, (x @ rotation).flip(0))
        >>> fit.score(x, x @ rotation) > 0.9
        True

    Source: Grave et al. 2019; start by clusters: Dar et al. 2025 (mini-vec2vec), Schnaus et al. 2026.
    Quadratic and linear assignment by SciPy.
    """

    costs_: list[float]

    def __init__(
        self,
        shared_dim: int | None = None,
        clusters: int = 30,
        restarts: int = 30,
        iterations: int = 40,
        batch_size: int = 1000,
        pair_weight: float = 0.5,
        seed: int = 0,
    ) -> None:
        if not 0 <= pair_weight < 1:
            raise ValueError(f"pair_weight must be at least 0 and below 1, got {pair_weight}")
        check_least(2, clusters=clusters, batch_size=batch_size)
        check_least(1, restarts=restarts, iterations=iterations)
        self.shared_dim, self.clusters, self.restarts = shared_dim, clusters, restarts
        self.iterations, self.batch_size = iterations, batch_size
        self.pair_weight, self.seed = pair_weight, seed

    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit from two clouds of any sizes, and pairs if there are any; see [`Alignment`]."""
        context, query = check_vectors("context", context), check_vectors("query", query)
        width = check_shared_dim(self.shared_dim, min(context.shape[1], query.shape[1]))
        means = (mean_of(context), mean_of(query))
        free: tuple[Tensor, Tensor] = (torch.arange(len(context)), torch.arange(len(query)))
        anchor, n_pairs = None, 0
        if pairs is not None:
            context, query, pairs = check_fit("WassersteinProcrustes", context, query, pairs, least=2)
            anchor = paired_moments(context, query, pairs, moments_from="all", covariances=False).cross
            free, n_pairs = unpaired_rows(pairs, len(context), len(query)), len(pairs)
        generator, clouds = torch.Generator().manual_seed(self.seed), []
        for name, x, rows, mean in zip(("context", "query"), (context, query), free, means, strict=True):
            if len(rows) < self.clusters:
                raise ValueError(f"{name} has {len(rows)} rows without a pair, fewer than clusters={self.clusters}")
            order = torch.randperm(len(rows), generator=generator)[: max(5000, self.batch_size)]
            clouds.append(x[rows[order.to(rows.device)]].double() - mean)
        guesses = cluster_cross_moments(*clouds, clusters=self.clusters, restarts=self.restarts, seed=self.seed)
        starts = [(cross, min(width, self.clusters - 1)) for cross in guesses]
        starts.append((torch.stack(guesses).mean(0), width))
        if anchor is not None:
            starts.append((anchor, min(width, n_pairs - 1)))
        size = min(self.batch_size, *(len(cloud) for cloud in clouds))
        fixed = [normalise(cloud[:size]) for cloud in clouds]
        trials = []
        for cross, start_width in starts:
            weights = procrustes_weights(cross, start_width)
            for _ in range(5):
                weights = procrustes_weights(self._mix(self._match(fixed, weights)[1], anchor), width)
            trials.append((self._match(fixed, weights)[0], weights))
        trials.sort(key=lambda trial: trial[0])
        weights = trials[0][1]
        for _ in range(self.iterations):
            batch = [normalise(cloud[torch.randperm(len(cloud), generator=generator)[:size]]) for cloud in clouds]
            weights = procrustes_weights(self._mix(self._match(batch, weights)[1], anchor), width)
        self.costs_ = [cost for cost, _ in trials] + [self._match(fixed, weights)[0]]
        self._set_maps(weights, means, torch.promote_types(context.dtype, query.dtype), n_pairs)
        return self

    def _match(self, batch: list[Tensor], weights: tuple[Tensor, Tensor]) -> tuple[float, Tensor]:
        """Assign one to one: mean cost (1 - cosine) and cross-covariance of the matched rows."""
        shared = [normalise(side @ weight.T) for side, weight in zip(batch, weights, strict=True)]
        similarity = (shared[0] @ shared[1].T).cpu().numpy()
        rows, columns = (torch.as_tensor(index) for index in linear_sum_assignment(similarity, maximize=True))
        cost = 1 - float(similarity[rows, columns].mean())
        return cost, batch[0][rows].T @ batch[1][columns] / len(rows)

    def _mix(self, matched: Tensor, anchor: Tensor | None) -> Tensor:
        if anchor is None:
            return matched
        # Both to unit norm: matched rows have unit length and pairs do not.
        return (1 - self.pair_weight) * matched / matched.norm() + self.pair_weight * anchor / anchor.norm()
