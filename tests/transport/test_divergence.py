"""The debiased divergence against geomloss, its kept self term, its certificates."""

import geomloss
import pytest
import torch

from otmerge_hf.transport import sinkhorn, sinkhorn_divergence

from .clouds import clouds, relative_error, weights


ABSOLUTE = {"epsilon": 0.5, "epsilon_scale": "absolute"}


@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_agree_with_geomloss_annealed_slowly(weighted):
    x, y = clouds()
    a, b = (weights(40), weights(50, seed=1)) if weighted else (torch.full((40,), 1 / 40), torch.full((50,), 1 / 50))
    loss = geomloss.SamplesLoss("sinkhorn", p=2, blur=0.5**0.5, scaling=0.995, debias=True)
    leaf = x.clone().requires_grad_()
    value = loss(a, leaf, b, y)
    value.backward()
    given = {"a": a, "b": b} if weighted else {}
    result = sinkhorn_divergence(x.requires_grad_(), y, **ABSOLUTE, **given)
    result.value.backward()
    assert result.value.item() == pytest.approx(value.item(), rel=1e-3)
    assert relative_error(x.grad, leaf.grad) <= 1e-2


def test_it_is_the_difference_of_three_transports():
    x, y = clouds(12, 9, 3, dtype=torch.float64)
    value = {
        name: sinkhorn(p, q, tol=1e-10, max_iterations=10000, **ABSOLUTE).value
        for name, p, q in (("xy", x, y), ("xx", x, x), ("yy", y, y))
    }
    result = sinkhorn_divergence(x, y, tol=1e-10, **ABSOLUTE)
    torch.testing.assert_close(result.value, value["xy"] - 0.5 * value["xx"] - 0.5 * value["yy"], rtol=1e-7, atol=1e-9)


def test_gradient_in_the_target_mirrors_that_in_the_source():
    x, y = clouds(12, 9, 3)
    x.requires_grad_()
    sinkhorn_divergence(x, y, tol=1e-6).value.backward()
    mirrored = x.detach().clone().requires_grad_()
    sinkhorn_divergence(y, mirrored, tol=1e-6).value.backward()
    torch.testing.assert_close(mirrored.grad, x.grad, rtol=1e-3, atol=1e-5)


def test_a_kept_self_term_gives_the_same_without_being_solved(monkeypatch):
    x, y = clouds()
    first = sinkhorn_divergence(x, y, **ABSOLUTE)
    assert first.y_self.pulled is None
    solves = count_self_solves(monkeypatch)
    x.requires_grad_()
    again = sinkhorn_divergence(x, y, y_self=first.y_self, **ABSOLUTE)
    assert len(solves) == 1  # x only
    torch.testing.assert_close(again.value, first.value)
    again.value.backward()
    other_epsilon = sinkhorn_divergence(x, y, epsilon=0.4, epsilon_scale="absolute", y_self=first.y_self)
    assert len(solves) == 3
    torch.testing.assert_close(
        other_epsilon.value, sinkhorn_divergence(x, y, epsilon=0.4, epsilon_scale="absolute").value
    )


def test_a_kept_self_term_is_refused_where_it_would_be_wrong():
    x, y = clouds()
    kept = sinkhorn_divergence(x, y, **ABSOLUTE).y_self
    with pytest.raises(ValueError, match="y_self must be left out when y or b requires a gradient"):
        sinkhorn_divergence(x, y.clone().requires_grad_(), y_self=kept, **ABSOLUTE)
    with pytest.raises(ValueError, match=r"y_self must belong to this y.* \(40,\), got \(50,\)"):
        sinkhorn_divergence(y, x, y_self=kept, **ABSOLUTE)


def test_a_constant_side_gets_no_gradient():
    x, y = (cloud.requires_grad_() for cloud in clouds())
    result = sinkhorn_divergence(x, y, y_constant=True)
    result.value.backward()
    assert y.grad is None
    wanted = x.grad.clone()
    x.grad = None
    sinkhorn_divergence(x, y).value.backward()
    torch.testing.assert_close(x.grad, wanted)
    assert y.grad.abs().sum() > 0


def test_the_error_of_a_self_term_counts():
    x, y = clouds(30, 1, 2)
    result = sinkhorn_divergence(x, y, tol=1e-3)
    assert result.converged
    assert 0 < result.marginal_error <= 1e-3  # the transport to one point is exact; what is left is x's own


def count_self_solves(monkeypatch):
    from otmerge_hf.transport._symmetric import SelfProblem

    solves, solve = [], SelfProblem.solve

    def counted(problem, options, pull):
        solves.append(problem)
        return solve(problem, options, pull)

    monkeypatch.setattr(SelfProblem, "solve", counted)
    return solves
