"""Inputs that break other solvers: a clear error that names the argument, or the right value."""

import pytest
import torch

from otmerge_hf.transport import sinkhorn, sinkhorn_divergence, sinkhorn_from_cost, sliced_wasserstein, wasserstein2

from .clouds import clouds, relative_error


X, Y = clouds(6, 5, 3)
SOLVERS = [sinkhorn, sinkhorn_divergence]
EVERY = [*SOLVERS, sliced_wasserstein, wasserstein2]


def spoilt(value):
    bad = Y.clone()
    bad[2, 1] = value
    return bad


@pytest.mark.parametrize("solve", EVERY)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_named(solve, value):
    with pytest.raises(ValueError, match="y must be finite, got 1 NaN or infinite of 15"):
        solve(X, spoilt(value))
    with pytest.raises(ValueError, match="x must be finite"):
        solve(spoilt(value), X)


@pytest.mark.parametrize("solve", EVERY)
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X.numpy(), Y, "x must be a torch.Tensor, got ndarray"),
        (X.int(), Y, "x must be floating point, got torch.int32"),
        (X[0], Y, r"x must be \(N, D\) or \(B, N, D\), got shape \(3,\)"),
        (X, Y[:0], "y must not be empty"),
        (X[None], Y, "same batch shape"),
        (X[None].expand(2, 6, 3), Y[None], "same batch shape"),
        (X, Y[:, :2], "same last dimension, got 3 and 2"),
        (X, Y.double(), "same dtype, got torch.float32 and torch.float64"),
        (X, Y.to("meta"), "same device"),
    ],
)
def test_clouds_that_do_not_fit_are_named(solve, x, y, message):
    with pytest.raises(ValueError, match=message):
        solve(x, y)


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0}, "epsilon must be finite and > 0, got 0"),
        ({"epsilon": -1.0}, "epsilon must be finite and > 0"),
        ({"epsilon": float("nan")}, "epsilon must be finite and > 0"),
        ({"epsilon": "small"}, "epsilon must be a number"),
        ({"epsilon_scale": "max"}, "epsilon_scale must be 'mean' or 'absolute', got 'max'"),
        ({"cost": "manhattan"}, "cost must be 'sqeuclidean' or 'cosine', got 'manhattan'"),
        ({"tol": 0}, "tol must be finite and > 0"),
        ({"max_iterations": 0}, "max_iterations must be >= 1"),
        ({"memory_budget": 0}, "memory_budget must be finite and > 0"),
        ({"potentials": (torch.zeros(6),)}, r"potentials must be a pair \(f, g\), got 1"),
        ({"potentials": (torch.zeros(6), torch.zeros(6))}, r"g of shape \(5,\), got \(6,\)"),
        ({"potentials": (torch.zeros(6), torch.full((5,), float("nan")))}, "potentials must be finite"),
    ],
)
def test_bad_options_are_named(solve, options, message):
    with pytest.raises(ValueError, match=message):
        solve(X, Y, **options)


@pytest.mark.parametrize("solve", EVERY)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a": torch.full((6,), 1.0)}, "a must sum to 1 over the kept points, got"),
        ({"a": torch.tensor([1.5, -0.5, 0, 0, 0, 0])}, "a must be non-negative, got a minimum of -0.5"),
        ({"b": torch.full((6,), 1 / 6)}, r"b must have shape \(5,\), got \(6,\)"),
        ({"b": torch.full((5,), float("nan"))}, "b must be finite"),
        ({"x_mask": torch.zeros(6, dtype=torch.bool)}, "x_mask must keep at least one point"),
        ({"y_mask": torch.ones(5)}, "y_mask must be boolean or integer, got torch.float32"),
        ({"y_mask": torch.ones(4, dtype=torch.bool)}, "y_mask must have shape"),
    ],
)
def test_bad_weights_and_masks_are_named(solve, options, message):
    with pytest.raises(ValueError, match=message):
        solve(X, Y, **options)


def test_bad_cost_matrices_are_named():
    with pytest.raises(ValueError, match="cost must be finite, got 1 NaN"):
        sinkhorn_from_cost(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(ValueError, match=r"cost must be \(N, M\) or"):
        sinkhorn_from_cost(torch.zeros(3))
    with pytest.raises(ValueError, match="not empty"):
        sinkhorn_from_cost(torch.zeros(0, 3))


def test_zero_vectors_have_no_cosine():
    with pytest.raises(ValueError, match="x must have no zero vector when cost='cosine', got 1"):
        sinkhorn(torch.cat((X, torch.zeros(1, 3))), Y, cost="cosine")


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("point", [0.0, 1.0, 0.1, -1e4])
def test_constant_clouds_cost_nothing(solve, point):
    x = torch.full((6, 3), point, requires_grad=True)
    result = solve(x, torch.full((5, 3), point))
    result.value.backward()
    assert result.converged
    assert abs(result.value.item()) <= 1e-12 * max(1.0, point**2)
    assert x.grad.abs().max() <= 1e-6 * max(1.0, abs(point))


@pytest.mark.parametrize("solve", SOLVERS)
def test_one_point_against_many_is_exact(solve):
    x = X[:1].clone().requires_grad_()
    result = solve(x, Y)
    result.value.backward()
    assert result.converged
    if solve is sinkhorn:
        assert result.value.item() == pytest.approx((0.5 * (X[:1] - Y).square().sum(-1)).mean().item(), rel=1e-6)
    torch.testing.assert_close(x.grad[0], X[0] - Y.mean(0))
    alone = solve(X[:1], Y[:1])
    assert alone.value.item() == pytest.approx(0.5 * (X[0] - Y[0]).square().sum().item(), rel=1e-6)


def test_clouds_far_apart_keep_their_gradient():
    """1e4 apart in float32: solvers that centre both clouds together lose the gradient altogether."""
    x, y = clouds(32, 32, 16)
    epsilon = 0.05 * float((0.5 * torch.cdist(x, y) ** 2).mean())
    for distance in (0.0, 1e4):
        far = (y + distance).double()  # what float32 made of it
        for solve in SOLVERS:
            narrow, wide = x.clone().requires_grad_(), x.double().requires_grad_()
            options = {"epsilon": epsilon, "epsilon_scale": "absolute", "tol": 1e-5}
            result = solve(narrow, far.float(), **options)
            result.value.backward()
            exact = solve(wide, far, **options)
            exact.value.backward()
            assert result.value.item() == pytest.approx(exact.value.item(), rel=1e-5)
            assert relative_error(narrow.grad, wide.grad) <= 1e-5
            # the plan does not know how far away the other cloud is
            torch.testing.assert_close(result.potentials[0].isfinite().all(), torch.tensor(True))


def test_the_plan_does_not_depend_on_the_distance_of_the_means():
    x, y = clouds(32, 32, 16)
    options = {"epsilon": 0.5, "epsilon_scale": "absolute", "tol": 1e-5}
    near, far = sinkhorn(x, y, **options), sinkhorn(x, y + 1024.0, **options)
    assert (near.plan() - far.plan()).abs().sum() <= 1e-2  # y + 1024 rounds y to 1e-4


@pytest.mark.parametrize("solve", SOLVERS)
def test_costs_beyond_float32_are_refused(solve):
    with pytest.raises(ValueError, match=r"x and y must have a finite cost in torch.float32"):
        solve(X, Y + 1e20)
    assert solve(X.double(), Y.double() + 1e20).value.isfinite()


def test_a_failed_call_leaves_no_trace():
    """geomloss turns gradients off for the whole process when its solver raises, and on after a no_grad call."""
    with pytest.raises(ValueError, match="finite"):
        sinkhorn(X, spoilt(float("nan")))
    assert torch.is_grad_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    with torch.no_grad():
        assert not sinkhorn(X.clone().requires_grad_(), Y).value.requires_grad
        assert not torch.is_grad_enabled()
