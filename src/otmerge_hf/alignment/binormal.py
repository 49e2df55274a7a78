r"""The binormal model of a search: of each pair, a share p of distractors scores at least as high as the partner.

$\Phi^{-1}(1 - p)$ is normal over pairs. With mean 0 and spread 1, p is uniform: the partner is nothing special.
"""

import math

import torch
from torch import Tensor


_DRAWS = 400
# As many pairs' worth of the model is mixed into what was counted.
_MIXED = 4.0
# Quadrature over a standard normal, and twice the prior's variance of mean and log spread.
_NODES = torch.linspace(-4, 4, 41, dtype=torch.float64)
_LOG_WEIGHTS = (-(_NODES**2) / 2).log_softmax(0)
_PRIOR = torch.tensor([18.0, 1.0], dtype=torch.float64)


def _shares(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log spreads (..., 2) to log p and log(1 - p) at the nodes, (..., T)."""
    mean, spread = parameters[..., :1], parameters[..., 1:].exp()
    z = mean + spread * _NODES
    return torch.special.log_ndtr(-z), torch.special.log_ndtr(z)


@torch.enable_grad()
def posterior(above: Tensor, others: int, generator: torch.Generator) -> Tensor:
    """Draws (draws, 2) of the normal posterior of mean and log spread, from counts (R,) of `others` distractors.

    Pairs that are counted in several fits count as several: the draws spread less than they should.
    """
    values, times = above.double().cpu().unique(return_counts=True)

    def energy(parameters: Tensor) -> Tensor:
        log_p, log_q = _shares(parameters)
        fits = (values[:, None] * log_p + (others - values)[:, None] * log_q + _LOG_WEIGHTS).logsumexp(1)
        # A weak prior keeps this finite where nothing scores above a partner. Shuffled pairs have mean and log 0.
        return (parameters * parameters / _PRIOR).sum() - (fits * times).sum()

    z = torch.special.ndtri((others - above.double().cpu() + 0.5) / (others + 1))
    best = torch.stack([z.mean(), z.std().clamp_min(0.1).log()]).requires_grad_()
    optimizer = torch.optim.LBFGS([best], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = energy(best)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    curvature, axes = torch.linalg.eigh(torch.autograd.functional.hessian(energy, best.detach()))
    noise = torch.randn(_DRAWS, 2, generator=generator, dtype=torch.float64)
    return best.detach() + noise / curvature.clamp_min(1.0).sqrt() @ axes.T


def recalls(parameters: Tensor, candidates: int, depths: list[int]) -> Tensor:
    """Recall@k among N candidates of draws (draws, 2), (depths, draws).

    Example:
        >>> recalls(torch.zeros(1, 2).double(), 100, [1]).round(decimals=2)
        tensor([[0.0100]], dtype=torch.float64)
    """
    log_p, log_q = _shares(parameters)
    n, terms = candidates - 1, []
    for j in range(min(depths[-1], candidates)):
        ways = math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1)
        terms.append((ways + j * log_p + (n - j) * log_q + _LOG_WEIGHTS).logsumexp(1).exp())
    return torch.stack(terms).cumsum(0).clamp_max(1)[[min(k, candidates) - 1 for k in depths]]


def counted(above: Tensor, others: int, candidates: int, depths: list[int]) -> Tensor:
    """Recall@k among N candidates, N at most m + 1, over all choices of distractors: (depths,), without bias.

    Example:
        >>> counted(torch.tensor([0, 1, 2]), 2, 2, [1])
        tensor([0.5000], dtype=torch.float64)
    """
    above, n = above.double().cpu(), candidates - 1
    all_ways = _log_ways(torch.full_like(above, others), n)
    terms = [
        (_log_ways(above, j) + _log_ways(others - above, n - j) - all_ways).exp().mean()
        for j in range(min(depths[-1], candidates))
    ]
    return torch.stack(terms).cumsum(0).clamp_max(1)[[min(k, candidates) - 1 for k in depths]]


def _log_ways(n: Tensor, k: int) -> Tensor:
    """Logarithm of n choose k, minus infinity where k is more than n."""
    ways = torch.lgamma(n + 1) - math.lgamma(k + 1) - torch.lgamma((n - k).clamp_min(0) + 1)
    return torch.where(n >= k, ways, -math.inf)


def extrapolate(above: Tensor, others: int, candidates: int, depths: list[int], generator: torch.Generator) -> Tensor:
    """Draws of Recall@k among N candidates, (depths, draws), from counts (R,) of m distractors.

    What was counted among N or, where they are fewer, m + 1 candidates; the model carries it on to N, in logits.
    """
    near = min(candidates, others + 1)
    parameters = posterior(above, others, generator)
    base = recalls(parameters, near, depths).median(1, keepdim=True).values
    seen = (counted(above, others, near, depths)[:, None] * len(above) + base * _MIXED) / (len(above) + _MIXED)
    logits = recalls(parameters, candidates, depths).logit(1e-9) + seen.logit(1e-9) - base.logit(1e-9)
    return logits.sigmoid().cummax(0).values
