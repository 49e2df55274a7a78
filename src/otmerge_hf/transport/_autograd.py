"""What comes in: numbers whose gradients are known. What goes out: numbers on the tape, whatever made them."""

from typing import Any

import torch
from torch import Tensor


class full_precision:
    """No gradient tape, no autocast, no TF32 or bf16 products: a cost error of 1e-3 is a tenth of epsilon.

    A plain class: contextlib's machinery would take a tenth of a small solve.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device.type

    def __enter__(self) -> None:
        autocast = torch.is_autocast_enabled(self.device)
        self.before = torch.is_grad_enabled(), autocast, torch.get_float32_matmul_precision()
        self._set(False, False, "highest")

    def __exit__(self, *error: object) -> None:
        self._set(*self.before)

    def _set(self, grad: bool, autocast: bool, precision: str) -> None:
        torch.set_grad_enabled(grad)
        torch.set_autocast_enabled(self.device, autocast)
        torch.set_float32_matmul_precision(precision)


class _KnownGradient(torch.autograd.Function):
    """A value whose gradients are already known: forward passes it on, backward scales them."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a transport cost")
        shapes = (grad.shape + (1,) * (known.dim() - grad.dim()) for known in ctx.gradients)
        return (None, None, *(known * grad.reshape(shape) for known, shape in zip(ctx.gradients, shapes, strict=True)))


def refuse_second_derivative(what: str) -> None:
    """Raise RuntimeError in a backward pass with `create_graph=True`: a penalty on a known gradient would vanish."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{what} has no second derivative: expected a backward pass without create_graph=True.")


def attach(value: Tensor, *pairs: tuple[Tensor | None, Tensor | None]) -> Tensor:
    """Give `value` known gradients, by pairs of an input and its gradient; those of constants are left out."""
    known = [(tensor, gradient) for tensor, gradient in pairs if gradient is not None and wants_gradient(tensor)]
    if not known:
        return value
    inputs, gradients = zip(*known, strict=True)
    return _KnownGradient.apply(value, gradients, *inputs)


def wants_gradient(tensor: Tensor | None) -> bool:
    """Whether a gradient in `tensor` is being recorded."""
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled()
