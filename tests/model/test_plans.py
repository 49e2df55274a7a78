"""The plan that travels with the model against the transport package, which does not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from otmerge_hf.model import plans
from otmerge_hf.model.plans import entropic_plan
from otmerge_hf.transport import sinkhorn_batch


OPTIONS = {"epsilon": 0.2, "epsilon_scale": "absolute", "tol": 1e-12}


def clouds(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    y = 0.7 * torch.randn(3, 9, 4, generator=generator, dtype=torch.float64) + 0.5
    x_mask, y_mask = torch.arange(6) < torch.tensor([[6], [4], [1]]), torch.arange(9) < torch.tensor([[5], [9], [7]])
    return x.to(dtype), y.to(dtype), x_mask, y_mask


def problem(x, y, x_mask, y_mask):
    """Cost and log-weights of two clouds, padding at -inf."""
    cost = 0.5 * (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1)
    return cost, *((mask / mask.sum(-1, keepdim=True)).to(x.dtype).log() for mask in (x_mask, y_mask))


@pytest.mark.parametrize("slack", [None, 0.05, 0.5, 5.0])
def test_plan_agrees_with_the_transport_package(slack):
    x, y, x_mask, y_mask = clouds()
    wanted = sinkhorn_batch(x, y, x_mask=x_mask, y_mask=y_mask, slack=slack, **OPTIONS).plan()
    plan = entropic_plan(*problem(x, y, x_mask, y_mask), epsilon=0.2, iterations=2000, slack=slack)
    torch.testing.assert_close(plan, wanted, rtol=1e-6, atol=1e-10)
    assert (plan[~x_mask] == 0).all()
    assert (plan.mT[~y_mask] == 0).all()


@pytest.mark.parametrize("slack", [None, 0.5])
def test_gradient_agrees_with_the_transport_package(slack):
    """Two different ways: through every iteration here, through the marginal equations there."""
    x, y, x_mask, y_mask = clouds()
    weights = torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradients(make_plan):
        leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
        return torch.autograd.grad((make_plan(*leaves) * weights).sum(), leaves)

    unrolled = gradients(
        lambda x, y: entropic_plan(*problem(x, y, x_mask, y_mask), epsilon=0.2, iterations=2000, slack=slack)
    )
    implicit = gradients(
        lambda x, y: sinkhorn_batch(x, y, x_mask=x_mask, y_mask=y_mask, slack=slack, **OPTIONS).plan()
    )
    for one, other in zip(unrolled, implicit, strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("slack", [None, 0.5])
def test_gradient_in_the_cost_is_exact_after_few_iterations(slack):
    cost, log_a, log_b = problem(*clouds())
    cost = cost.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda cost: entropic_plan(cost, log_a, log_b, epsilon=0.5, iterations=3, slack=slack), cost
    )


def test_a_few_iterations_fit_the_rows_exactly():
    """What attention needs: the weights of every query token sum to its share, converged or not."""
    x, y, x_mask, y_mask = clouds()
    plan = entropic_plan(*problem(x, y, x_mask, y_mask), epsilon=0.05, iterations=1)
    torch.testing.assert_close(plan.sum(-1), x_mask / x_mask.sum(-1, keepdim=True, dtype=torch.float64))


def test_each_problem_may_have_its_own_epsilon_and_slack():
    cost, log_a, log_b = problem(*clouds())
    epsilon, slack = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0.3, 1.0, 2.0])
    together = entropic_plan(cost, log_a, log_b, epsilon, slack=slack)
    for k in range(3):
        part = slice(k, k + 1)
        alone = entropic_plan(cost[part], log_a[part], log_b[part], epsilon[k].item(), slack=slack[k].item())
        torch.testing.assert_close(together[part], alone, rtol=1e-6, atol=1e-12)


def test_half_precision_and_autocast_compute_in_float32():
    cost, log_a, log_b = problem(*clouds(torch.float32))
    plain = entropic_plan(cost, log_a, log_b, 0.2)
    assert plain.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(entropic_plan(cost, log_a, log_b, 0.2), plain, rtol=0, atol=0)
    rounded = cost.bfloat16()
    torch.testing.assert_close(
        entropic_plan(rounded, log_a, log_b, 0.2), entropic_plan(rounded.float(), log_a, log_b, 0.2), rtol=0, atol=0
    )


def test_small_epsilon_stays_finite_in_float32():
    cost, log_a, log_b = problem(*clouds(torch.float32))
    cost.requires_grad_()
    plan = entropic_plan(1e3 * cost, log_a, log_b, 0.01)
    plan.square().sum().backward()
    assert plan.isfinite().all()
    assert cost.grad.isfinite().all()


def test_the_file_needs_nothing_but_torch():
    """It is copied beside a model on the hub, where this package is not installed."""
    script = (
        "import sys, runpy; space = runpy.run_path(sys.argv[1]); import torch; "
        "space['entropic_plan'](torch.ones(1, 2, 2), torch.zeros(1, 2), torch.zeros(1, 2), 0.1); "
        "print([name for name in sys.modules if name.split('.')[0] in ('otmerge_hf', 'transformers')])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(Path(plans.__file__))], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
