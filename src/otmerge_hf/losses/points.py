"""Helpers of all terms: full precision under autocast, checks, rows that are pairs, distances and directions."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch

from ..model.fusers import masked_mean


# Plans that are looked at entry by entry are solved more finely than a value alone would need.
PLAN_TOL = 1e-3
Arguments = ParamSpec("Arguments")


def in_float32(function: Callable[Arguments, torch.Tensor]) -> Callable[Arguments, torch.Tensor]:
    """Run `function` in float32 (float64 for float64 tensors), with autocast off.

    A transport cost or a kernel in bfloat16 is wrong by more than the differences that it is meant to see.
    """

    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> torch.Tensor:
        device = next(a.device.type for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(_upcast, args), **{name: _upcast(value) for name, value in kwargs.items()})  # type: ignore[arg-type]

    return run


def _upcast(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


def check_clouds(context_embeds: torch.Tensor, query_embeds: torch.Tensor, one_space: bool = True) -> None:
    """Refuse anything but two clouds of points (N, D) and (M, D), N, M >= 1; of two widths if not in one space."""
    for name, cloud in (("context_embeds", context_embeds), ("query_embeds", query_embeds)):
        if cloud.dim() != 2 or len(cloud) == 0:
            raise ValueError(f"`{name}` has shape {tuple(cloud.shape)}; expected (at least one point, dimensions).")
    widths = context_embeds.shape[1], query_embeds.shape[1]
    if one_space and widths[0] != widths[1]:
        names = f"`context_embeds` has {widths[0]} dimensions and `query_embeds` {widths[1]}"
        raise ValueError(f"{names}; they must share one space.")


def check_same_shape(context_embeds: torch.Tensor, query_embeds: torch.Tensor) -> None:
    """Refuse embeddings that cannot be pairs."""
    if context_embeds.shape != query_embeds.shape:
        shapes = f"`context_embeds` {tuple(context_embeds.shape)} and `query_embeds` {tuple(query_embeds.shape)}"
        raise ValueError(f"{shapes} must have the same shape: each row of one belongs to a row of the other.")


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """Refuse anything but one of the choices."""
    if value not in choices:
        raise ValueError(f"`{name}` is {value!r}; expected one of {', '.join(choices)}.")


def check_positive(value: float, name: str) -> None:
    """Refuse anything but a positive number."""
    if not value > 0:
        raise ValueError(f"`{name}` is {value}; expected a positive number.")


def pair_rows(outputs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Embeddings (P, D) of both sides and group ids (P,) of the rows that are pairs; all rows without a mask."""
    context, query, groups = outputs.context_embeds, outputs.query_embeds, outputs.group_ids
    check_same_shape(context, query)
    if outputs.pair_mask is None:
        return context, query, groups
    rows = outputs.pair_mask.bool()
    return context[rows], query[rows], None if groups is None else groups[rows]


def token_means(outputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (B, D_side) of both sides' real tokens."""
    context = masked_mean(outputs.context_tokens, outputs.context_mask)
    return context, masked_mean(outputs.query_tokens, outputs.query_mask)


def connected_zero(*tensors: torch.Tensor) -> torch.Tensor:
    """Zero with a graph to the tensors: the loss where there is nothing to compare."""
    return sum((tensor.sum() * 0 for tensor in tensors), start=tensors[0].new_zeros(()))


def unit(points: torch.Tensor) -> torch.Tensor:
    """Directions of points (..., D); the zero vector stays zero, with a finite gradient."""
    return torch.nn.functional.normalize(points, dim=-1, eps=1e-6)


@in_float32
def cosines(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cosines (N, M) of points (N, D) and (M, D)."""
    return unit(x) @ unit(y).T


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared distances (N, M) of points (N, D) and (M, D), without the N x M x D differences."""
    centre = torch.cat([x, y]).mean(dim=0).detach()  # distances stay, cancellation in float32 goes
    x, y = x - centre, y - centre
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :]
    return (squares - 2 * x @ y.T).clamp(min=0)
