"""What comes in: any tensors. What goes out: tensors the solver can trust, or a ValueError before any work."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


# Weights come out of a float32 softmax or division; a sum off by more than this is a mistake, not rounding.
_WEIGHT_SUM_TOLERANCE = 1e-3


def upcast(tensor: Tensor, name: str) -> Tensor:
    """Return `tensor` in float32 (half types) or as it is (float32, float64), and refuse other types."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype in (torch.bfloat16, torch.float16):
        return tensor.float()
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}")
    return tensor


def check_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Upcast two clouds and check that they can be compared point by point."""
    x, y = upcast(x, "x"), upcast(y, "y")
    for name, cloud in (("x", x), ("y", y)):
        if cloud.dim() not in (2, 3):
            raise ValueError(f"{name} must be (N, D) or (B, N, D), got shape {tuple(cloud.shape)}")
        if cloud.numel() == 0:
            raise ValueError(f"{name} must not be empty, got shape {tuple(cloud.shape)}")
    if x.dim() != y.dim() or x.shape[:-2] != y.shape[:-2]:
        raise ValueError(f"x and y must have the same batch shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    for what, one, other in (
        ("last dimension", x.shape[-1], y.shape[-1]),
        ("dtype", x.dtype, y.dtype),
        ("device", x.device, y.device),
    ):
        if one != other:
            raise ValueError(f"x and y must have the same {what}, got {one} and {other}")
    return x, y


def check_number(value: float, name: str) -> float:
    """Return `value` as a float and refuse anything but a finite number above zero."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number > 0, got {value!r}") from error
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and > 0, got {number}")
    return number


def name_bad_tensor(**tensors: Tensor) -> None:
    """Raise for the first tensor that holds a NaN or an infinity, with its name and how many."""
    for name, tensor in tensors.items():
        if bad := int((~torch.isfinite(tensor)).sum()):
            raise ValueError(f"{name} must be finite, got {bad} NaN or infinite of {tensor.numel()} entries")


@dataclass
class Marginal:
    """Weights of one cloud: `weights` (..., N) sum to 1; `padding` marks weight zero, None when there is none."""

    weights: Tensor
    padding: Tensor | None
    uniform: bool

    def fill(self, values: Tensor, padded: float = 0.0) -> Tensor:
        """Return `values`, (..., N) or (..., N, D), with `padded` on padding, whatever is there, NaN included."""
        if self.padding is None:
            return values
        padding = self.padding if values.dim() == self.padding.dim() else self.padding.unsqueeze(-1)
        return values.masked_fill(padding, padded)


def marginals(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, x_mask: Tensor | None, y_mask: Tensor | None
) -> tuple[Marginal, Marginal]:
    """Check the weights and masks (true = real point) of source (..., N, any) and target (..., M, any)."""
    return _marginal(a, x_mask, x, ("a", "x_mask")), _marginal(b, y_mask, y, ("b", "y_mask"))


def _marginal(weights: Tensor | None, mask: Tensor | None, points: Tensor, names: tuple[str, str]) -> Marginal:
    shape = points.shape[:-1]
    if mask is not None:
        if mask.dtype.is_floating_point or mask.dtype.is_complex:
            raise ValueError(f"{names[1]} must be boolean or integer, got {mask.dtype}")
        mask = _expand(mask, shape, names[1]).bool().to(points.device)
        if not bool(mask.any(dim=-1).all()):
            raise ValueError(f"{names[1]} must keep at least one point of every cloud, got a cloud without any")
    if weights is None:
        if mask is None:
            return Marginal(points.new_full(shape, 1.0 / shape[-1]), None, uniform=True)
        kept = mask.to(points.dtype)
        return Marginal(kept / kept.sum(dim=-1, keepdim=True), ~mask, uniform=False)
    values = upcast(weights.detach(), names[0])
    values = _expand(values, shape, names[0]).to(points.device, points.dtype).contiguous()
    if mask is not None:
        values = values.masked_fill(~mask, 0.0)
    name_bad_tensor(**{names[0]: values})
    if bool((values < 0).any()):
        raise ValueError(f"{names[0]} must be non-negative, got a minimum of {values.min().item():g}")
    totals = values.sum(dim=-1)
    if bool(((totals - 1).abs() > _WEIGHT_SUM_TOLERANCE).any()):
        raise ValueError(f"{names[0]} must sum to 1 over the kept points, got {totals.flatten()[:4].tolist()}")
    padding = values == 0
    return Marginal(values, padding if bool(padding.any()) else None, uniform=False)


def _expand(tensor: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Give a per-cloud tensor the batch shape of the clouds; (N,) is shared by the whole batch."""
    if tensor.shape != shape and tensor.shape != shape[-1:]:
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
    return tensor.expand(shape)


def row_blocks(total: int, block: int) -> list[slice]:
    """Slices of at most `block` rows that make up `total`."""
    return [slice(start, min(start + block, total)) for start in range(0, total, block)]
