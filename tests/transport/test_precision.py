"""float32 inside, whatever the surroundings; exact gradients in float64."""

import pytest
import torch

from otmerge_hf.transport import sinkhorn, sinkhorn_divergence, sinkhorn_from_cost

from .clouds import clouds, weights


X, Y = clouds(24, 20, 16)
SOLVERS = [sinkhorn, sinkhorn_divergence]


def value_and_gradient(solve, x, y, **options):
    x = x.detach().clone().requires_grad_()
    value = solve(x, y, **options).value
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("solve", SOLVERS)
def test_autocast_changes_nothing(solve):
    plain = value_and_gradient(solve, X, Y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value_and_gradient(solve, X, Y)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_fast_matmul_settings_change_nothing(solve, precision):
    plain = value_and_gradient(solve, X, Y)
    torch.set_float32_matmul_precision(precision)
    try:
        inside = value_and_gradient(solve, X, Y)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(solve, dtype):
    x, y = X.to(dtype), Y.to(dtype)
    value, gradient = value_and_gradient(solve, x, y)
    expected, expected_gradient = value_and_gradient(solve, x.float(), y.float())
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected_gradient.to(dtype), rtol=0, atol=0)
    mixed, _ = value_and_gradient(solve, x, y.float())
    torch.testing.assert_close(mixed, expected, rtol=0, atol=0)


@pytest.mark.parametrize("solve", SOLVERS)
def test_float64_stays_float64(solve):
    value, gradient = value_and_gradient(solve, X.double(), Y.double())
    assert value.dtype == gradient.dtype == torch.float64


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("cost", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("batched", [False, True])
def test_gradients_in_points_and_weights_are_exact(solve, cost, batched):
    x, y = clouds(6, 5, 3, dtype=torch.float64)
    if batched:
        x, y = torch.stack((x, 2 * x)), torch.stack((y, y + 1))
    logits_a, logits_b = weights(6, dtype=torch.float64).log(), weights(5, dtype=torch.float64).log()
    inputs = [tensor.clone().requires_grad_() for tensor in (x, y, logits_a, logits_b)]

    def value(x, y, logits_a, logits_b):
        # weights move on the simplex, where their gradient is defined
        a, b = logits_a.softmax(-1), logits_b.softmax(-1)
        options = {"epsilon": 0.3, "epsilon_scale": "absolute", "tol": 1e-12, "max_iterations": 5000}
        return solve(x, y, a=a, b=b, cost=cost, **options).value

    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_gradient_in_the_cost_is_exact():
    cost = torch.rand(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    options = {"epsilon": 0.1, "epsilon_scale": "absolute", "tol": 1e-12}
    assert torch.autograd.gradcheck(lambda c: sinkhorn_from_cost(c, **options).value, cost)


@pytest.mark.parametrize("outer", [lambda value: value, torch.square])
def test_a_second_derivative_is_refused_not_made_up(outer):
    x = X.double().requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative: expected a backward pass without create_graph"):
        torch.autograd.grad(outer(sinkhorn(x, Y.double()).value), x, create_graph=True)
    assert torch.autograd.grad(outer(sinkhorn(x, Y.double()).value), x)[0].abs().sum() > 0


def test_the_value_can_be_scaled_and_used_twice():
    x = X.clone().requires_grad_()
    value = sinkhorn(x, Y).value
    (once,) = torch.autograd.grad(value, x, retain_graph=True)
    (thrice,) = torch.autograd.grad(3.0 * value, x)
    torch.testing.assert_close(thrice, 3.0 * once)
