"""Numbers for context tokens -> maps over the image."""

import math
from collections.abc import Sequence

import torch


def attention_map(attentions: Sequence[torch.Tensor], query_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Share of attention that each cell of the image grid gets, averaged over layers, heads and question tokens.

    Shapes: B questions, S_q tokens, S_c cells plus leading class tokens, n grid side.

    Args:
        attentions: Per layer (B, heads, S_q, S_c), rows summing to 1.
        query_mask: (B, S_q), 1 for real tokens; None if all are.

    Returns:
        (B, n, n); each map sums to 1 less the share of class tokens.

    Raises:
        ValueError: If there are no attention weights.

    Example:
        >>> attention_map([torch.full((2, 4, 3, 9), 1 / 9)]).shape
        torch.Size([2, 3, 3])
    """
    if not attentions:
        raise ValueError("The fuser has no attention weights; `concat` and `average` do not attend.")
    weights = torch.stack(list(attentions)).mean(dim=(0, 2))  # (B, S_q, S_c)
    mask = torch.ones(weights.shape[:2]) if query_mask is None else query_mask.to(weights.dtype)
    share = (weights * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)  # (B, S_c)
    side = math.isqrt(share.shape[1])
    return share[:, share.shape[1] - side * side :].unflatten(1, (side, side))


def grid_of(grid: Sequence[int] | None, count: int) -> tuple[int, int]:
    """Rows and columns of `count` context tokens: as configured, or the largest square that fits."""
    rows, columns = grid or (math.isqrt(count), math.isqrt(count))
    return rows, columns


def on_grid(heat: torch.Tensor, grid: Sequence[int] | None) -> torch.Tensor:
    """Numbers of context tokens (B, S_c), without leading class tokens -> (B, rows, columns), [`normalized`]."""
    rows, columns = grid_of(grid, heat.shape[1])
    return normalized(heat[:, heat.shape[1] - rows * columns :].unflatten(1, (rows, columns)))


def normalized(heat: torch.Tensor) -> torch.Tensor:
    """Positive part of (B, rows, columns), each map divided by its sum; even where nothing is positive."""
    heat = heat.float().clamp(min=0)
    total = heat.sum(dim=(1, 2), keepdim=True)
    return torch.where(total > 0, heat / total.clamp(min=torch.finfo(heat.dtype).tiny), 1 / heat[0].numel())
