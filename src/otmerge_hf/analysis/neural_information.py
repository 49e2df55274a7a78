"""Mutual information by a critic that learns to tell pairs from strangers, measured on rows it has not seen."""

import copy
import math

import torch
from torch import Tensor, nn

from ..alignment import CCA
from ..model.adapters import mlp
from .information import Information, normal_scores, paired_samples


_EVALUATIONS = 10
_COST = 28  # times D_x D_z / N: twenty times what the correlations cost to learn, in nats
_CHOOSE = 1024  # rows at most, by which the step is chosen


class _Critic(nn.Module):
    """Log density ratio (N, M) of every x with every z: that of correlated Gaussians, plus a learned dot product."""

    def __init__(self, x: Tensor, z: Tensor, width: int) -> None:
        super().__init__()
        self.gaussian = CCA(regularization=0.0, correlation_weight=0.0).fit(x, z)
        self.rho = self.gaussian.correlations_.clamp(max=1 - 1e-6)
        parts = [mlp(side.shape[1], 2 * width, width) for side in (x, z)]
        for parameter in parts[1][2].parameters():
            nn.init.zeros_(parameter)  # starts as the Gaussians' ratio
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        u, v = self.gaussian.transform_context(x), self.gaussian.transform_query(z)  # canonical variates
        rho, rest = self.rho, 1 - self.rho**2
        squares = [(side**2) @ (rho**2 / rest) / 2 for side in (u, v)]
        ratio = (u * rho / rest) @ v.T - squares[0][:, None] - squares[1] - rest.log().sum() / 2
        g, h = (part(side.float()) for part, side in zip(self.parts, (x, z), strict=True))
        return ratio + (g @ h.T).double()


def _infonce(scores: Tensor) -> Tensor:
    return (scores.diagonal() - scores.logsumexp(1)).mean() + math.log(len(scores))


def neural_information(
    x: Tensor,
    z: Tensor,
    *,
    steps: int = 200,
    batch_size: int = 256,
    width: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Information:
    r"""InfoNCE of a learned critic: trained on some rows, chosen on others, measured on a quarter of them.

    $$ I \ge E\Big[ \log \frac{e^{f(x_i, z_i)}}{\frac1M \sum_j e^{f(x_i, z_j)}} \Big] \le \log M $$

    A lower bound on average. The critic starts as the density ratio of Gaussians with the training rows' correlations
    and learns what departs from it. The ceiling is log M, M = N / 4, and the bound bends long before it: for Gaussians
    it loses about exp(2 I) / 2M, so half the ceiling is what may be believed; and about 1.4 D_x D_z / N nats for what
    the correlations cost to learn, on average 0 to 3 times that. `reliable_from` is twenty times that: an estimate
    below it is too low by about so many nats, which is all that there is to say of vectors that hardly depend on each
    other; those that do not get about 0, or less. It was within 5% for D = 2 and 8 at N = 6,000, for D = 32 at
    N = 16,000, from 1 nat on (2 with D = 32).

    Args:
        x, z: Samples (N, D_x) and (N, D_z), row by row; N / 2 more than the wider side. Columns become normal
            scores, which changes no information.
        steps: Of Adam.
        batch_size: Rows a step.
        width: Of the learned dot product.
        learning_rate: Of Adam.
        seed: Of the split, the critic and its batches.

    Raises:
        ValueError: If rows do not match or are too few.

    Example:
        >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> neural_information(x, x + noise, steps=20).ceiling == math.log(500)
        True

    Source: van den Oord et al. 2018, eq. 4 and 5; Poole et al. 2019, section 2.3, for its ceiling.
    """
    x, z = paired_samples(x, z)
    count = len(x)
    if count < 8:
        raise ValueError(f"x and z need at least 8 rows, got {count}")
    x, z = normal_scores("x", x), normal_scores("z", z)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        quarter = count // 4
        chosen_by = min(quarter, _CHOOSE)
        measure, choose, train = torch.randperm(count).split([quarter, chosen_by, count - quarter - chosen_by])
        critic = _Critic(x[train], z[train], width)
        best, kept = _infonce(critic(x[choose], z[choose])).item(), copy.deepcopy(critic)
        optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate)
        for step in range(1, steps + 1):
            rows = train[torch.randint(len(train), (min(batch_size, len(train)),))]
            optimizer.zero_grad()
            (-_infonce(critic(x[rows], z[rows]))).backward()
            optimizer.step()
            if step % max(steps // _EVALUATIONS, 1) == 0:
                with torch.no_grad():
                    now = _infonce(critic(x[choose], z[choose])).item()
                if now > best:
                    best, kept = now, copy.deepcopy(critic)
    with torch.no_grad():
        nats = _infonce(kept(x[measure], z[measure])).item()
    ceiling = math.log(len(measure))
    return Information(nats, ceiling, ceiling / 2, _COST * x.shape[1] * z.shape[1] / count)
