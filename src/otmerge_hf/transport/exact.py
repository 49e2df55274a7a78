"""What comes in: two clouds. What goes out: their exact Wasserstein distance, for evaluation."""

from typing import Any

import torch
from torch import Tensor

from ._checks import check_pair, marginals, name_bad_tensor


def wasserstein2(
    x: Tensor,
    y: Tensor,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    x_mask: Tensor | None = None,
    y_mask: Tensor | None = None,
) -> Tensor:
    r"""Measure the exact 2-Wasserstein distance by a network simplex. For evaluation: no gradient, runs on the CPU.

    $$ W_2(x, y) = \Big(\min_{P1 = a,\; P^\top 1 = b} \sum_{ij} P_{ij} |x_i - y_j|^2\Big)^{1/2} $$

    Points, weights and masks have the shapes of [`sinkhorn`]. Time grows like N^3.

    Returns:
        The distance, () or (B,), in feature units, detached, float32 (float64 for float64 clouds). Half its square
        is in the units of [`sinkhorn`].

    Raises:
        ValueError: If an input is not finite, is empty, or does not fit the others.
        ImportError: If POT is not installed.
        RuntimeError: If the simplex does not finish.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> wasserstein2(x, x + torch.tensor([3.0, 4.0]))
        tensor(5.)

    Source: Bonneel et al. 2011; computed by POT's `ot.emd2`, checked against `scipy.optimize.linear_sum_assignment`.
    """
    try:
        import ot
    except ImportError as error:
        raise ImportError("wasserstein2 needs POT: pip install 'otmerge-hf[exact]'") from error
    x, y = check_pair(x, y)
    mu, nu = marginals(x, y, a, b, x_mask, y_mask)
    clouds = x.detach().reshape(-1, *x.shape[-2:]), y.detach().reshape(-1, *y.shape[-2:])
    weights = mu.weights.reshape(-1, x.shape[-2]), nu.weights.reshape(-1, y.shape[-2])
    squares = [_squared(ot, *item) for item in zip(*clouds, *weights, strict=True)]
    return torch.tensor(squares, dtype=x.dtype, device=x.device).sqrt_().reshape(x.shape[:-2])


def _squared(ot: Any, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> float:
    """W_2^2 of one pair of clouds in float64, padding left out."""
    x, a, y, b = (part.double().cpu() for part in (x[a > 0], a[a > 0], y[b > 0], b[b > 0]))
    name_bad_tensor(x=x, y=y)
    a, b = a / a.sum(), b / b.sum()
    # Each cloud about its own mean: the part of the cost that only says how far apart the means are is exact.
    mean_x, mean_y = a @ x, b @ y
    cost = ot.dist((x - mean_x).numpy(), (y - mean_y).numpy())
    value, log = ot.emd2(a.numpy(), b.numpy(), cost, numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the exact solver did not finish: {log['warning']}")
    return max(float(value), 0.0) + float((mean_x - mean_y).square().sum())
