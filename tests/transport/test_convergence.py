"""Stopping: certificates that tell the truth, warm starts, small epsilons, the memory budget."""

import math
import warnings

import pytest
import torch

from otmerge_hf.transport import _core, _scaling, sinkhorn, sinkhorn_divergence

from .clouds import clouds, pot_reference, relative_error


def test_an_unconverged_solve_says_so_and_warns_once(monkeypatch):
    monkeypatch.setattr(_core, "_warned", False)
    x, y = clouds()
    with pytest.warns(RuntimeWarning, match=r"stopped after 2 iterations with a marginal error of .* \(tol 1e-06\)"):
        result = sinkhorn(x, y, epsilon=1e-3, max_iterations=2, tol=1e-6)
    assert not result.converged
    assert result.iterations == 2
    missed = (result.plan().sum(0) - 1 / 50).abs().sum()
    assert missed > 1e-2
    torch.testing.assert_close(result.marginal_error, missed, rtol=1e-3, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not sinkhorn_divergence(x, y, epsilon=1e-3, max_iterations=2, tol=1e-6).converged


def test_a_batch_reports_each_item(monkeypatch):
    monkeypatch.setattr(_core, "_warned", True)
    easy, hard = torch.zeros(12, 3), clouds(12, 12, 3)[0]
    target = clouds(12, 12, 3)[1]
    result = sinkhorn(torch.stack((easy, hard)), torch.stack((easy, target)), epsilon=0.005, max_iterations=3)
    assert result.converged.tolist() == [True, False]


@pytest.mark.parametrize("epsilon", [3e-3, 1e-3])
def test_scalings_beyond_float32_are_absorbed(epsilon, monkeypatch):
    """On a line the plan tends to the sorted matching, with potentials hundreds of epsilons apart."""
    absorbed = []
    absorb = _scaling.Scaler.absorb
    monkeypatch.setattr(_scaling.Scaler, "absorb", lambda scaler: absorbed.append(1) or absorb(scaler))
    n = 12
    x = torch.linspace(0, 1, n)[:, None].requires_grad_()
    y = 3 * x.detach() ** 2 + x.detach()
    result = sinkhorn(x, y, epsilon=epsilon, epsilon_scale="absolute")
    result.value.backward()
    assert absorbed
    assert result.converged
    matching = 0.5 * (x.detach() - y).square().mean() + epsilon * math.log(n)  # <P, C> + epsilon KL(P | ab)
    assert result.value.item() == pytest.approx(matching.item(), rel=2e-3)
    assert relative_error(result.barycentric_projection(y), y) <= 1e-2
    assert relative_error(x.grad, (x.detach() - y) / n) <= 1e-2


def test_an_outlier_does_no_harm():
    x, y = clouds(30, 30, 4)
    x[0] = 1e3
    value, gradient, _ = pot_reference(x, y, 0.01)
    result = sinkhorn(x.requires_grad_(), y, epsilon=0.01)
    result.value.backward()
    assert result.converged
    assert result.value.item() == pytest.approx(value, rel=1e-4)
    assert relative_error(x.grad, gradient) <= 1e-2


@pytest.mark.parametrize("mask", [None, torch.arange(50) < 45])
def test_a_warm_start_saves_iterations_and_changes_nothing_else(mask):
    x, y = clouds()
    cold = sinkhorn(x, y, epsilon=0.01, y_mask=mask, tol=1e-4)
    drifted = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    again = sinkhorn(drifted, y, epsilon=0.01, y_mask=mask, tol=1e-4)
    warm = sinkhorn(drifted, y, epsilon=0.01, y_mask=mask, tol=1e-4, potentials=cold.potentials)
    assert warm.converged
    assert warm.iterations < again.iterations / 1.5
    torch.testing.assert_close(warm.value, again.value, rtol=1e-5, atol=0)
    same = sinkhorn(x, y, epsilon=0.01, y_mask=mask, tol=1e-4, potentials=cold.potentials)
    assert same.iterations <= 1


def test_useless_potentials_only_cost_time():
    x, y = clouds()
    useless = torch.randn(50, generator=torch.Generator().manual_seed(2)) * 100
    cold, misled = sinkhorn(x, y, tol=1e-5), sinkhorn(x, y, tol=1e-5, potentials=(torch.zeros(40), useless))
    assert misled.converged
    torch.testing.assert_close(misled.value, cold.value, rtol=1e-5, atol=0)


def test_a_tighter_tolerance_is_kept():
    x, y = clouds(dtype=torch.float64)
    for tol in (1e-2, 1e-5, 1e-10):
        result = sinkhorn(x, y, tol=tol)
        assert result.marginal_error <= tol
        assert (result.plan().sum(0) - 1 / 50).abs().sum() <= 1.01 * tol + 1e-14


def test_the_memory_budget_is_kept():
    """The whole matrix would take 16 MB; blocks of it are all that is ever made."""
    x, y = clouds(2000, 2000, 2)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, list | tuple) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel() * tensor.element_size())
            return out

    x.requires_grad_()
    with Largest():
        result = sinkhorn_divergence(x, y, epsilon=0.2, memory_budget=2**20)
        result.value.backward()
    assert result.converged
    assert 2**19 < largest <= 2**20
