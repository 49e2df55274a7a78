"""Operations by hand: what torch's counter gets right, and the two that it does not."""

import pytest
import torch
from torch import nn

from benchmarks.methods import get_method
from benchmarks.runner.flops import FlopCounter


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_convolution_forward_and_backward(groups):
    convolution = nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False)
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    forward = 2 * 2 * 25 * 9 * 8 * (8 // groups)
    with FlopCounter() as counter:
        y = convolution(x)
    assert counter.total == forward
    with FlopCounter() as counter:
        y.sum().backward()
    assert counter.total == 2 * forward


def test_frozen_convolution_has_no_gradient_of_its_weights():
    convolution = nn.Conv2d(4, 6, 1, bias=False).requires_grad_(False)
    x = torch.randn(1, 4, 3, 3, requires_grad=True)
    with FlopCounter() as counter:
        convolution(x).sum().backward()
    assert counter.total == 2 * (2 * 9 * 4 * 6)


def test_fused_attention():
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    k, v = (torch.randn(2, 3, 7, 8, requires_grad=True) for _ in range(2))
    with FlopCounter() as counter:
        y = nn.functional.scaled_dot_product_attention(q, k, v)
    product = 2 * 2 * 3 * 5 * 7 * 8
    assert counter.total == 2 * product
    with FlopCounter() as counter:
        y.sum().backward()
    assert counter.total == 5 * product  # scores once more, and four products


def test_a_phase_counts_its_steps(task, recipe):
    few = get_method("zero_shot_average")(task, recipe).phases[0]
    many = get_method("zero_shot_average")(task, recipe.replace(max_steps=8, min_steps=8)).phases[0]
    assert many.flops == 2 * few.flops
    head = 2 * 8 * 16 * (16 + 5)  # forward of one batch of 8
    context = 2 * 8 * 17 * 16 * 16  # 17 tokens of 16 features to 16
    # the frozen adapters run forward only, the head forward and backward (twice, less the input's gradient)
    assert few.flops / 4 > head * 2 + context
