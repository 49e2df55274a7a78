"""Entropic transport plans between small clouds, as attention weights: a cost in, a plan out."""

import math

import torch


def entropic_plan(
    cost: torch.Tensor,
    log_a: torch.Tensor,
    log_b: torch.Tensor,
    epsilon: float | torch.Tensor,
    iterations: int = 20,
    slack: float | torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Plan of least cost <P, C> + epsilon KL(P | a b^T), by a fixed number of iterations in the log domain.

    $$ P_{ij} = a_i b_j \exp((f_i + g_j - C_{ij}) / \varepsilon) $$

    The rows are fitted last: without slack each sums to its `a` exactly. Gradients pass through every iteration.
    Computed in float32 (float64 for a float64 cost), whatever autocast says.

    Shapes: B problems, N sources, M targets.

    Args:
        cost: Cost of moving source i to target j, (B, N, M), finite.
        log_a: Log of the source weights, (B, N); -inf is padding.
        log_b: Log of the target weights, (B, M); -inf is padding.
        epsilon: Entropic regularisation, > 0, in units of the cost: a number or (B,).
        iterations: How often both sides are fitted, >= 1.
        slack: Price of a unit of mass that stays behind, > 0, in units of the cost: a number or (B,). Marginals are
            exact when None.

    Returns:
        Plans, (B, N, M), zero on padding.

    Example:
        >>> import math
        >>> cost, even = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.full((1, 2), -math.log(2))
        >>> entropic_plan(cost, even, even, epsilon=0.1).round(decimals=3)
        tensor([[[0.5000, 0.0000],
                 [0.0000, 0.5000]]])

    Source: Cuturi 2013; Chizat et al. 2018 for the slack; checked against `otmerge_hf.transport.sinkhorn_batch`.
    """
    dtype = torch.float64 if cost.dtype == torch.float64 else torch.float32
    log_a, log_b = log_a.to(dtype).unsqueeze(-1), log_b.to(dtype).unsqueeze(-2)  # (B, N, 1), (B, 1, M)
    epsilon = torch.as_tensor(epsilon, dtype=dtype, device=cost.device).reshape(-1, 1, 1)
    reach = 1.0
    if slack is not None:
        slack = torch.as_tensor(slack, dtype=dtype, device=cost.device).reshape(-1, 1, 1)
        reach = slack / (slack + epsilon)  # an exact marginal is reached in one step, a relaxed one in part
    logits = -cost.to(dtype) / epsilon
    f = torch.zeros_like(log_a)  # potentials over epsilon
    for _ in range(iterations):
        g = -reach * (logits + f + log_a).logsumexp(dim=-2, keepdim=True)
        f = -reach * (logits + g + log_b).logsumexp(dim=-1, keepdim=True)
    return (logits + f + g + log_a + log_b).exp()


def even_log_weights(tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Log of equal weights of the real tokens (B, S, D), in float32: (B, S), -inf for padding.

    Where all is padding, every token counts.
    """
    if mask is None:
        return torch.full(tokens.shape[:2], -math.log(tokens.shape[1]), device=tokens.device)
    real = mask.to(torch.float32)
    real = torch.where(real.any(dim=1, keepdim=True), real, 1.0)  # no plan leaves an empty side: it would be NaN
    return (real / real.sum(dim=1, keepdim=True)).log()


def token_cosines(query: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Cosine of each query token (B, S_q, D) with each context token (B, S_c, D): (B, S_q, S_c)."""
    query, context = (torch.nn.functional.normalize(tokens, dim=-1) for tokens in (query, context))
    return query @ context.transpose(1, 2)
