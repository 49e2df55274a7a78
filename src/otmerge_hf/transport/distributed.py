"""What comes in: each process's cloud. What goes out: all clouds, concatenated on every process, with gradient.

The transport loss of the global batch is not the mean of the losses of its shards. So every process gathers all
clouds, solves the same global problem, and keeps the gradient of its own shard.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ._autograd import refuse_second_derivative
from ._checks import upcast


def gather_clouds(cloud: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Concatenate the clouds of all processes along the points, in order of rank (an all-gather with gradient).

    Each process receives, for its own points, the *sum* of the gradients of all processes' losses. When every process
    computes the same global loss, that is `world_size` times its gradient, and the averaging of
    `DistributedDataParallel` makes it the single-process gradient. So do not multiply the loss by the number of
    processes. Without a process group, or with one process, the inputs come back as they are.

    Args:
        cloud: Points of this process, (N, D), floating point; N may differ between processes.
        mask: True where a point is real, (N,), boolean or 0/1; all processes give one or none does.

    Returns:
        All points, (sum N, D), and all masks, (sum N,), or None.

    Raises:
        ValueError: If `cloud` is not (N, D) or `mask` not (N,), or if the processes disagree on D or the mask.

    Example:
        >>> gather_clouds(torch.zeros(3, 2))[0].shape
        torch.Size([3, 2])

    Source: the adjoint of a concatenation is a sum and a slice; checked on two gloo processes against a single one.
    """
    upcast(cloud, "cloud")
    if cloud.dim() != 2:
        raise ValueError(f"cloud must be (N, D), got shape {tuple(cloud.shape)}")
    if mask is not None and mask.shape != cloud.shape[:1]:
        raise ValueError(f"mask must have shape {tuple(cloud.shape[:1])}, got {tuple(mask.shape)}")
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return cloud, None if mask is None else mask.bool()
    shapes = torch.stack(_all_gather(torch.tensor([*cloud.shape, mask is not None], device=cloud.device))).tolist()
    sizes = [size for size, _, _ in shapes]
    if len({tuple(rest) for _, *rest in shapes}) != 1:
        raise ValueError(f"cloud and mask must agree between processes, got (N, D, has mask) = {shapes}")
    masks = None if mask is None else _gather_rows(mask.to(cloud.device, torch.uint8), sizes).bool()
    return _GatherRows.apply(cloud, sizes), masks


class _GatherRows(torch.autograd.Function):
    """Concatenate rows across processes; backward sums what every process sends to this one's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return _gather_rows(rows, sizes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        refuse_second_derivative("gathering clouds across processes")
        # gloo has no reduce_scatter; an all_reduce of (sum N, D) is small beside the N x M solve it follows.
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad.split(ctx.sizes)[dist.get_rank()], None


def _gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """Gather shards of different lengths: pad to the longest, gather, cut."""
    missing = max(sizes) - rows.shape[0]
    padded = torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))) if missing else rows
    return torch.cat([part[:size] for part, size in zip(_all_gather(padded), sizes, strict=True)])


def _all_gather(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return parts
