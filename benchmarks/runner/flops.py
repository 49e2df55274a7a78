"""Floating-point operations of what actually ran, with the two counts that torch gets wrong put right."""

from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper


aten = torch.ops.aten


def _convolution_backward(
    grad_out_shape: Any, x_shape: Any, w_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    # args: bias, stride, padding, dilation, transposed, output_padding, groups, output_mask.
    # torch's own formula forgets the groups in the weights' gradient: a depthwise layer of 672 channels would count
    # 672 times. Input's and weights' gradient each cost what the forward costs.
    transposed, mask = args[4], args[7]
    positions = (x_shape if transposed else grad_out_shape)[2:]
    forward = 2 * x_shape[0] * prod(positions) * prod(w_shape)
    return forward * (int(mask[0]) + int(mask[1]))


def _attention(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    batch, heads, rows, width = query
    return 2 * batch * heads * rows * key[-2] * (width + value[-1])


def _attention_backward(
    grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    batch, heads, rows, width = query
    # scores anew, then gradients of scores and values, of queries and keys
    return 2 * batch * heads * rows * key[-2] * (3 * width + 2 * value[-1])


_COUNTS = flop_registry | {
    aten.convolution_backward: shape_wrapper(_convolution_backward),
    aten._scaled_dot_product_flash_attention_for_cpu: shape_wrapper(_attention),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: shape_wrapper(_attention_backward),
}
_whole: set[Any] = set()  # operators that are known not to be made of others


class FlopCounter(TorchDispatchMode):
    """Counts floating-point operations of matrix products, convolutions and attention; a multiply-add is two.

    Element-wise work (normalisation, activations, the Sinkhorn iterations) is not counted; `total` is an int. Torch's
    own `FlopCounterMode` also says which module did what, and takes several times as long an operator for it, which
    would be charged to the method that is measured.

    Example:
        >>> with FlopCounter() as counter:
        ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
        >>> counter.total
        48

    Source: `torch.utils.flop_counter`, with the backward of grouped convolutions corrected and the CPU's fused
    attention added; checked against sums by hand.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):  # of higher order, such as flex attention: not counted
            return func(*args, **kwargs)
        count = _COUNTS.get(func._overloadpacket)
        if count is None and func not in _whole:
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
            _whole.add(func)
        out = func(*args, **kwargs)
        if count is not None:
            self.total += count(*args, **kwargs, out_val=out)
        return out
