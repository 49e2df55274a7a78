"""What must hold for every pair of clouds: hypothesis looks for one where it does not."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from otmerge_hf.transport import sinkhorn, sinkhorn_divergence

from .clouds import clouds, relative_error, weights


seeds = st.integers(0, 10_000)
sizes = st.integers(1, 20)
epsilons = st.sampled_from([0.5, 0.1, 0.05, 0.02])
fillers = st.sampled_from([0.0, 1e6, float("nan")])
few = settings(max_examples=15, deadline=None, derandomize=True)


@few
@given(seed=seeds, n=sizes, m=sizes, d=st.integers(1, 6), epsilon=epsilons)
def test_marginals_are_the_weights(seed, n, m, d, epsilon):
    x, y = clouds(n, m, d, seed)
    a, b = weights(n, seed), weights(m, seed + 1)
    result = sinkhorn(x, y, epsilon=epsilon, a=a, b=b, tol=1e-4)
    plan = result.plan()
    assert result.converged
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(1), a, atol=1e-5, rtol=1e-4)
    missed = (plan.sum(0) - b).abs().sum()
    assert missed <= 1.1e-4
    torch.testing.assert_close(missed, result.marginal_error, atol=2e-6, rtol=0.05)


@few
@given(seed=seeds, n=sizes, d=st.integers(1, 6), epsilon=epsilons)
def test_divergence_of_a_cloud_from_itself_is_zero(seed, n, d, epsilon):
    x, _ = clouds(n, 1, d, seed)
    x.requires_grad_()
    result = sinkhorn_divergence(x, x.detach().clone(), epsilon=epsilon, tol=1e-4)
    result.value.backward()
    scale = x.detach().var(0, unbiased=False).sum() + 1e-12
    assert abs(result.value.item()) <= 1e-5 * scale
    assert x.grad.norm() <= 1e-3 * (scale / n).sqrt()


@few
@given(seed=seeds, n=sizes, m=sizes, epsilon=epsilons)
def test_divergence_is_symmetric_and_not_negative(seed, n, m, epsilon):
    x, y = clouds(n, m, 4, seed)
    forward = sinkhorn_divergence(x, y, epsilon=epsilon, tol=1e-5).value
    backward = sinkhorn_divergence(y, x, epsilon=epsilon, tol=1e-5).value
    torch.testing.assert_close(forward, backward, rtol=1e-4, atol=1e-5)
    assert forward >= -1e-5


@few
@given(seed=seeds, n=sizes, m=sizes, shift=st.floats(-100, 100))
def test_translation_adds_what_it_must(seed, n, m, shift):
    """D(x + t, y) = D(x, y) + <t, mean x - mean y> + |t|^2 / 2, at the same absolute epsilon."""
    x, y = clouds(n, m, 3, seed, dtype=torch.float64)
    t = shift * torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    options = {"epsilon": 0.2, "epsilon_scale": "absolute", "tol": 1e-9}
    before, after = (sinkhorn(points, y, **options) for points in (x, x + t))
    expected = before.value + t @ (x.mean(0) - y.mean(0)) + 0.5 * t @ t
    torch.testing.assert_close(after.value, expected, rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(before.plan(), after.plan(), rtol=1e-5, atol=1e-9)


@few
@given(seed=seeds, n=sizes, m=sizes)
def test_order_of_points_does_not_matter(seed, n, m):
    x, y = clouds(n, m, 4, seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    by_x, by_y = torch.randperm(n, generator=generator), torch.randperm(m, generator=generator)
    plain = sinkhorn(x, y, tol=1e-9)
    shuffled = sinkhorn(x[by_x], y[by_y], tol=1e-9)
    torch.testing.assert_close(shuffled.value, plain.value)
    torch.testing.assert_close(shuffled.plan(), plain.plan()[by_x][:, by_y], atol=1e-8, rtol=1e-5)


@few
@given(
    seed=seeds,
    n=sizes,
    m=sizes,
    extra=st.integers(1, 5),
    epsilon=epsilons,
    filler=st.sampled_from([0.0, 1e6, float("nan")]),
)
def test_padding_does_not_matter_whatever_it_holds(seed, n, m, extra, epsilon, filler):
    x, y = clouds(n, m, 4, seed)
    padded_x = torch.cat((x, torch.full((extra, 4), filler))).requires_grad_()
    padded_y = torch.cat((torch.full((extra, 4), filler), y)).requires_grad_()
    x_mask, y_mask = torch.arange(n + extra) < n, torch.arange(m + extra) >= extra
    leaves = [x.clone().requires_grad_(), y.clone().requires_grad_()]
    for solve in (sinkhorn, sinkhorn_divergence):
        plain = solve(*leaves, epsilon=epsilon, tol=1e-5)
        padded = solve(padded_x, padded_y, epsilon=epsilon, x_mask=x_mask, y_mask=y_mask, tol=1e-5)
        torch.testing.assert_close(padded.value, plain.value, rtol=1e-4, atol=1e-5)
        wanted = torch.autograd.grad(plain.value, leaves)
        got = torch.autograd.grad(padded.value, (padded_x, padded_y))
        torch.testing.assert_close(got[0][:n], wanted[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(got[1][extra:], wanted[1], rtol=1e-3, atol=1e-4)
        assert not got[0][n:].any()
        assert not got[1][:extra].any()
        f, g = padded.potentials
        assert f.isfinite().all()
        assert g.isfinite().all()


@few
@given(seed=seeds, n=st.integers(2, 15), m=sizes, mix=st.floats(0, 1))
def test_value_is_convex_in_the_weights(seed, n, m, mix):
    x, y = clouds(n, m, 3, seed, dtype=torch.float64)
    a, other = weights(n, seed, torch.float64), weights(n, seed + 7, torch.float64)

    def value(weight):
        return sinkhorn(x, y, a=weight, epsilon=0.3, epsilon_scale="absolute", tol=1e-8).value

    assert value(mix * a + (1 - mix) * other) <= mix * value(a) + (1 - mix) * value(other) + 1e-7


@few
@given(seed=seeds, n=st.integers(2, 15), m=st.integers(2, 15))
def test_blocks_of_rows_give_the_same_as_the_whole(seed, n, m):
    x, y = clouds(n, m, 3, seed, dtype=torch.float64)
    leaves = [x.requires_grad_(), y.requires_grad_()]
    for solve in (sinkhorn, sinkhorn_divergence):
        whole = solve(*leaves, tol=1e-8)
        blocks = solve(*leaves, tol=1e-8, memory_budget=3 * m * 8)  # three rows at a time
        torch.testing.assert_close(blocks.value, whole.value, rtol=1e-6, atol=1e-7)
        for one, other in zip(*(torch.autograd.grad(r.value, leaves) for r in (blocks, whole)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@few
@given(seed=seeds, epsilon=epsilons)
def test_a_batch_gives_what_its_items_give(seed, epsilon):
    pairs = [clouds(7, 9, 4, seed + k) for k in range(3)]
    scale = torch.tensor([1.0, 10.0, 0.1])[:, None, None]
    x, y = (scale * torch.stack(side) for side in zip(*pairs, strict=True))
    leaves = [x.requires_grad_(), y.requires_grad_()]
    for solve in (sinkhorn, sinkhorn_divergence):
        together = solve(*leaves, epsilon=epsilon, tol=1e-5)
        alone = [solve(x[k], y[k], epsilon=epsilon, tol=1e-5) for k in range(3)]
        torch.testing.assert_close(together.value, torch.stack([r.value for r in alone]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.epsilon, torch.stack([r.epsilon for r in alone]))
        got = torch.autograd.grad(together.value.sum(), leaves)
        wanted = torch.autograd.grad(sum(r.value for r in alone), leaves)
        for one, other in zip(got, wanted, strict=True):
            assert relative_error(one, other) <= 1e-3
