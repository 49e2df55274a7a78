"""Few pairs and many unpaired points: fit the pairs, then let an entropic plan match the rest, and repeat."""

from typing import Any, Self

import torch
from torch import Tensor

from ..metrics.neighbours import normalise
from ..transport import sinkhorn
from .base import Alignment, check_fit, check_least, unpaired_rows
from .moment_fit import MomentFit
from .moments import Moments, paired_moments
from .procrustes import Procrustes
from .ridge import Ridge


# Ridge is the better start below about this many pairs: a rotation has too much freedom.
RIDGE_BELOW = 100


class SinkhornProcrustes(Alignment):
    r"""Pairs as anchor, unpaired points as refinement through an entropic transport plan.

    Starting from a fit on the pairs, repeat: match the unpaired points in the shared space, add what the plan
    says to the moments of the pairs, and solve the closed form again.

    $$ P^t = \arg\min_P \langle P, 1 - \cos(W_x^t x_i, W_y^t y_j)\rangle + \varepsilon \mathrm{KL}(P | ab^\top) $$
    $$ C^{t+1} = w \, C_{\text{pairs}} + (1 - w) \, X_c^\top P^t Y_c, \quad
       (W_x, W_y)^{t+1} = \operatorname{base}(C^{t+1}) $$

    The pairs stay in the moment matrix at every step, so that the matching cannot drift away from them. Worth
    it between about 20 and some 200 pairs; beyond that the pairs alone are as good or better.

    Args:
        base: Closed form solved at each step; [`Procrustes`] when None.
        start: Fit on the pairs that gives the first map; when None, [`Ridge`] below 100 pairs, else `base`.
        epsilon: Entropic regularisation, relative to the mean cosine cost.
        pair_weight: w, in (0, 1].
        iterations: Steps.
        batch_size: Most unpaired points per side in one plan; a fresh sample each step when there are more.
        seed: Of the samples.

    Attributes:
        iterations_: Steps done; fewer than `iterations` when the plan stopped moving.
        movement_: Change of the plan's moment from step to step, relative, one number a step.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(200, 4, generator=generator)
        >>> y = x @ torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]
        >>> pairs = torch.arange(20)[:, None].expand(-1, 2)
        >>> SinkhornProcrustes().fit(x, y, pairs).score(x, y)
        1.0

    Source: Grave et al. 2019 ("Unsupervised alignment of embeddings with Wasserstein Procrustes"), with the
    pairs' moment kept; Alvarez-Melis et al. 2019.
    """

    iterations_: int
    movement_: list[float]

    def __init__(
        self,
        base: MomentFit | None = None,
        start: MomentFit | None = None,
        epsilon: float = 0.05,
        pair_weight: float = 0.3,
        iterations: int = 20,
        batch_size: int = 2048,
        seed: int = 0,
    ) -> None:
        if not 0 < pair_weight <= 1:
            raise ValueError(f"pair_weight must be above 0 and at most 1, got {pair_weight}")
        if not 0 < epsilon < float("inf"):
            raise ValueError(f"epsilon must be a finite number above 0, got {epsilon}")
        check_least(1, iterations=iterations)
        check_least(2, batch_size=batch_size)
        self.base, self.start, self.epsilon, self.pair_weight = base, start, epsilon, pair_weight
        self.iterations, self.batch_size, self.seed = iterations, batch_size, seed

    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit from at least 2 pairs, and from the rows that no pair names; see [`Alignment`]."""
        if pairs is None:
            raise ValueError("SinkhornProcrustes needs pairs, and rows beyond them; got pairs=None")
        context, query, pairs = check_fit("SinkhornProcrustes", context, query, pairs, least=2)
        free = unpaired_rows(pairs, len(context), len(query))
        for name, rows in zip(("context", "query"), free, strict=True):
            if len(rows) == 0:
                raise ValueError(f"every {name} row is paired, so nothing is left to refine with: use Procrustes")
        base = self.base or Procrustes()
        start = self.start or (Ridge(alpha=10.0) if len(pairs) < RIDGE_BELOW else base)
        # The refinement's moments are about the centre of all rows, because the plan moves all of them.
        moments = paired_moments(context, query, pairs, moments_from="all")
        first = paired_moments(context, query, pairs, moments_from=start.moments_from)
        dtype = torch.promote_types(context.dtype, query.dtype)
        self._set_maps(start.solve(first), moments.means, dtype, len(pairs))
        anchor, previous = moments.cross, torch.zeros_like(moments.cross)
        generator = torch.Generator().manual_seed(self.seed)
        self.movement_ = []
        for _ in range(self.iterations):
            batch = [self._sample(side, generator) for side in free]
            found = self._plan_moment(context[batch[0]], query[batch[1]], moments)
            self.movement_.append(float((found - previous).norm() / found.norm().clamp_min(1e-300)))
            moments.cross, previous = self.pair_weight * anchor + (1 - self.pair_weight) * found, found
            self._set_maps(base.solve(moments), moments.means, dtype, len(pairs))
            if self.movement_[-1] < 1e-4:
                break
        self.iterations_ = len(self.movement_)
        return self

    def _sample(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        if len(rows) <= self.batch_size:
            return rows
        return rows[torch.randperm(len(rows), generator=generator)[: self.batch_size].to(rows.device)]

    def _plan_moment(self, x: Tensor, y: Tensor, moments: Moments) -> Tensor:
        """Cross-covariance under the plan between two samples, (Dc, Dq), float64."""
        shared = normalise(self.transform_context(x)), normalise(self.transform_query(y))
        result = sinkhorn(*shared, epsilon=self.epsilon, tol=1e-2)  # on the sphere, half |u-v|^2 = 1 - cos
        targets = result.barycentric_projection((y.double() - moments.means[1]).to(x.dtype))
        return (x.double() - moments.means[0]).T @ targets.double() / len(x)
