"""Many tiny problems at once: values, plans and both gradients against POT in float64 and against `sinkhorn`."""

import numpy as np
import ot
import pytest
import torch

from otmerge_hf.transport import _core, sinkhorn, sinkhorn_batch

from .clouds import relative_error


SLACKS = [None, 0.05, 0.5, 10.0]
EXACT = {"tol": 1e-12, "max_iterations": 50_000}


def batch(b=4, n=6, m=9, d=5, seed=0, dtype=torch.float64):
    """Overlapping clouds, (b, n, d) and (b, m, d)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, n, d, generator=generator, dtype=torch.float64)
    y = 0.7 * torch.randn(b, m, d, generator=generator, dtype=torch.float64) + 0.5
    return x.to(dtype), y.to(dtype)


def ragged(b, n, seed=0):
    """Masks (b, n) that keep at least one point each, not always the first ones."""
    mask = torch.rand(b, n, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, seed % n] = True
    return mask


def kl(p, q):
    """KL of two positive arrays of any mass."""
    return (p * np.log(np.maximum(p, 1e-300) / q) - p + q).sum()


def pot(x, y, epsilon, slack):
    """Value and plan of one problem by POT in float64, epsilon and slack relative to the mean cost."""
    cost = 0.5 * ot.dist(x.double().numpy(), y.double().numpy())
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    epsilon, product = epsilon * cost.mean(), a[:, None] * b
    if slack is None:
        plan = ot.sinkhorn(a, b, cost, epsilon, stopThr=1e-11, numItermax=100_000)
        return (plan * cost).sum() + epsilon * kl(plan, product), plan
    slack = slack * cost.mean()
    plan = ot.unbalanced.sinkhorn_unbalanced(a, b, cost, epsilon, slack, stopThr=1e-13, numItermax=500_000)
    missed = kl(plan.sum(1), a) + kl(plan.sum(0), b)
    return (plan * cost).sum() + epsilon * kl(plan, product) + slack * missed, plan


def leaves_and_gradients(x, y, loss, **options):
    """Gradients of ``loss(result)`` in both clouds."""
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
    return torch.autograd.grad(loss(sinkhorn_batch(*leaves, **options)), leaves)


@pytest.mark.parametrize("slack", SLACKS)
@pytest.mark.parametrize("epsilon", [0.2, 0.05])
def test_values_and_plans_agree_with_pot(slack, epsilon):
    x, y = batch()
    result = sinkhorn_batch(x, y, epsilon=epsilon, slack=slack, **EXACT)
    assert result.converged.all()
    for k in range(len(x)):
        value, plan = pot(x[k], y[k], epsilon, slack)
        assert result.value[k].item() == pytest.approx(value, rel=1e-8)
        np.testing.assert_allclose(result.plan()[k].numpy(), plan, atol=1e-8)


@pytest.mark.parametrize("slack", SLACKS)
@pytest.mark.parametrize("epsilon", [0.05, 0.01])
def test_defaults_in_float32_keep_the_promised_accuracy(slack, epsilon):
    x, y = batch(16, 12, 49, 32, dtype=torch.float32)
    result = sinkhorn_batch(x, y, epsilon=epsilon, slack=slack)
    assert result.converged.all()
    assert result.value.dtype == torch.float32
    exact = sinkhorn_batch(x.double(), y.double(), epsilon=epsilon, slack=slack, tol=1e-9, max_iterations=50_000)
    torch.testing.assert_close(result.value.double(), exact.value, rtol=1e-4, atol=0)
    got = leaves_and_gradients(x, y, lambda result: result.value.sum(), epsilon=epsilon, slack=slack)
    wanted = leaves_and_gradients(
        x.double(), y.double(), lambda result: result.value.sum(), epsilon=epsilon, slack=slack, tol=1e-9,
        max_iterations=50_000,
    )  # fmt: skip
    for one, other in zip(got, wanted, strict=True):
        for k in range(len(x)):
            assert relative_error(one[k], other[k]) <= 1e-2


def test_agrees_with_the_single_solver():
    x, y = batch()
    mask = ragged(4, 9)
    result = sinkhorn_batch(x, y, y_mask=mask, **EXACT)
    for k in range(len(x)):
        alone = sinkhorn(x[k], y[k], y_mask=mask[k], **EXACT)
        torch.testing.assert_close(result.value[k], alone.value)
        torch.testing.assert_close(result.plan()[k], alone.plan(), rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(result.epsilon[k], alone.epsilon)
        for one, other in zip(result.potentials, alone.potentials, strict=True):
            shift = one[k] - other
            kept = mask[k] if len(shift) == 9 else slice(None)
            torch.testing.assert_close(shift[kept], shift[kept].mean().expand_as(shift[kept]), rtol=0, atol=1e-8)


@pytest.mark.parametrize("slack", SLACKS)
def test_potentials_give_the_plan(slack):
    x, y = batch()
    result = sinkhorn_batch(x, y, slack=slack, **EXACT)
    f, g = result.potentials
    cost = 0.5 * torch.cdist(x, y).square()
    logits = (f.unsqueeze(-1) + g.unsqueeze(-2) - cost) / result.epsilon[:, None, None]
    torch.testing.assert_close(logits.exp() / (6 * 9), result.plan(), rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("slack", [None, 0.3])
@pytest.mark.parametrize("cost", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("turned", [False, True])
def test_gradients_are_those_of_finite_differences(slack, cost, turned):
    """Of values and of plans, with fewer sources than targets and the other way round, with padding."""
    clouds = [points.requires_grad_() for points in batch(2, 3, 4, 3)]
    masks = [ragged(2, 3, seed=1), ragged(2, 4, seed=2)]
    if turned:
        clouds.reverse()
        masks.reverse()
    options = {"epsilon": 0.3, "epsilon_scale": "absolute", "slack": slack, "cost": cost, **EXACT}
    options |= {"x_mask": masks[0], "y_mask": masks[1]}
    assert torch.autograd.gradcheck(lambda x, y: sinkhorn_batch(x, y, **options).value, clouds)
    assert torch.autograd.gradcheck(lambda x, y: sinkhorn_batch(x, y, **options).plan(), clouds)


def test_one_side_may_need_no_gradient():
    x, y = batch()
    weights = torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(result):
        return result.value.sum() + (result.plan() * weights).sum()

    both = leaves_and_gradients(x, y, loss)
    for side, expected in enumerate(both):
        clouds = [x, y]
        clouds[side] = clouds[side].clone().requires_grad_()
        (alone,) = torch.autograd.grad(loss(sinkhorn_batch(*clouds)), clouds[side])
        torch.testing.assert_close(alone, expected)
    assert not sinkhorn_batch(x, y).value.requires_grad
    with torch.no_grad():
        assert not sinkhorn_batch(x.clone().requires_grad_(), y).plan().requires_grad


@pytest.mark.parametrize("slack", [None, 0.3])
def test_gradient_of_a_plan_in_float32(slack):
    x, y = batch(8, 12, 49, 32, dtype=torch.float32)
    weights = torch.randn(8, 12, 49, generator=torch.Generator().manual_seed(1))

    def loss(result):
        return (result.plan() * weights.to(result.plan().dtype)).sum()

    got = leaves_and_gradients(x, y, loss, slack=slack)
    wanted = leaves_and_gradients(x.double(), y.double(), loss, slack=slack, **EXACT)
    for one, other in zip(got, wanted, strict=True):
        assert relative_error(one, other) <= 1e-2
    for gradient in leaves_and_gradients(x, y, loss, slack=slack, epsilon=1e-3, tol=0.05):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("slack", [None, 0.3])
@pytest.mark.parametrize("filler", [0.0, 1e6, float("nan")])
def test_padding_changes_nothing(slack, filler):
    x, y = batch(dtype=torch.float32)
    options = {"slack": slack, "tol": None, "max_iterations": 40}
    weights = torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(1))

    def loss(result):
        return result.value.sum() + (result.plan()[:, :6, :9] * weights).sum()

    plain = sinkhorn_batch(x, y, **options)
    gradients = leaves_and_gradients(x, y, loss, **options)
    x_mask, y_mask = torch.arange(8) < 6, torch.arange(12) < 9
    options |= {"x_mask": x_mask, "y_mask": y_mask}
    wide = [torch.cat((points, torch.full((4, more, 5), filler)), dim=1) for points, more in ((x, 2), (y, 3))]
    padded = sinkhorn_batch(*wide, **options)
    torch.testing.assert_close(padded.value, plain.value)
    torch.testing.assert_close(padded.plan()[:, :6, :9], plain.plan())
    assert (padded.plan()[:, 6:] == 0).all()
    assert (padded.plan()[:, :, 9:] == 0).all()
    got = leaves_and_gradients(*wide, loss, **options)
    for one, other in zip(got, gradients, strict=True):
        kept = other.shape[1]
        torch.testing.assert_close(one[:, :kept], other, rtol=1e-4, atol=1e-6)
        assert (one[:, kept:] == 0).all()


@pytest.mark.parametrize("slack", [None, 0.3])
def test_order_does_not_matter(slack):
    x, y = batch()
    generator = torch.Generator().manual_seed(3)
    by_problem, by_x, by_y = (torch.randperm(size, generator=generator) for size in (4, 6, 9))
    plain = sinkhorn_batch(x, y, slack=slack, **EXACT)
    mixed = sinkhorn_batch(x[by_problem][:, by_x], y[by_problem][:, by_y], slack=slack, **EXACT)
    torch.testing.assert_close(mixed.value, plain.value[by_problem])
    torch.testing.assert_close(mixed.plan(), plain.plan()[by_problem][:, by_x][:, :, by_y], rtol=1e-6, atol=1e-12)


def test_a_fixed_number_of_iterations_keeps_problems_apart():
    """Stopping on the worst problem lets neighbours decide how far a problem is solved; a fixed number does not."""
    x, y = batch(dtype=torch.float32)
    options = {"tol": None, "max_iterations": 7}
    together = sinkhorn_batch(x, y, **options)
    assert together.iterations == 7
    alone = sinkhorn_batch(x[:1], y[:1], **options)
    torch.testing.assert_close(together.plan()[:1], alone.plan(), rtol=1e-5, atol=1e-8)
    # the first two iterations are plain, from v = b on the kernel of the centred clouds
    exact_x, exact_y = batch()
    result = sinkhorn_batch(exact_x, exact_y, epsilon=0.3, tol=None, max_iterations=2)
    centred = exact_x - exact_x.mean(1, keepdim=True), exact_y - exact_y.mean(1, keepdim=True)
    kernel = (centred[0] @ centred[1].mT / result.epsilon[:, None, None]).exp()
    v = torch.full((4, 1, 9), 1 / 9, dtype=torch.float64)
    for _ in range(2):
        u = (1 / 6) / (kernel * v).sum(-1, keepdim=True)
        v = (1 / 9) / (kernel * u).sum(-2, keepdim=True)
    u = (1 / 6) / (kernel * v).sum(-1, keepdim=True)
    torch.testing.assert_close(result.plan(), u * kernel * v)


@pytest.mark.parametrize("slack", [None, 0.3])
def test_marginal_error_is_that_of_the_plan(slack, monkeypatch):
    monkeypatch.setattr(_core, "_warned", True)
    x, y = batch()
    result = sinkhorn_batch(x, y, epsilon=0.01, slack=slack, tol=1e-6, max_iterations=3)
    assert not result.converged.any()
    if slack is None:
        torch.testing.assert_close(result.marginal_error, (result.plan().sum(-2) - 1 / 9).abs().sum(-1))
    exact = sinkhorn_batch(x, y, epsilon=0.01, slack=slack, **EXACT)
    assert (result.marginal_error > 100 * exact.marginal_error).all()


def test_an_unconverged_solve_warns(monkeypatch):
    monkeypatch.setattr(_core, "_warned", False)
    x, y = batch()
    with pytest.warns(RuntimeWarning, match="stopped after 2 iterations"):
        sinkhorn_batch(x, y, epsilon=0.01, tol=1e-6, max_iterations=2)


def test_slack_lets_a_far_point_stay_behind():
    x, y = batch(2, 4, 6, 3, dtype=torch.float32)
    x[:, 0] += 30.0
    y[:, 0] -= 30.0
    weights = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    options = {"epsilon": 0.1, "slack": 2.0, "epsilon_scale": "absolute"}
    result = sinkhorn_batch(x, y, **options)
    rows = result.plan().sum(-1)
    assert rows[:, 0].max() < 1e-6
    assert rows[:, 1:].min() > 0.02
    assert result.value.isfinite().all()
    assert all(potential.isfinite().all() for potential in result.potentials)
    for gradient in leaves_and_gradients(
        x, y, lambda result: result.value.sum() + (result.plan() * weights).sum(), **options
    ):
        assert gradient.isfinite().all()
        assert gradient[:, 0].abs().max() < 1e-4 < gradient[:, 1:].abs().max()


def test_slack_that_leaves_everything_behind_costs_what_it_says():
    x, y = batch(2, 4, 6, 3, dtype=torch.float32)
    y = y + 100.0
    result = sinkhorn_batch(x, y, epsilon=0.1, slack=0.5, epsilon_scale="absolute")
    assert result.converged.all()
    assert result.plan().max() < 1e-30
    torch.testing.assert_close(result.value, torch.full((2,), 0.1 + 2 * 0.5))


def test_much_slack_comes_near_exact_marginals_in_as_many_iterations():
    """The constant between the potentials moves by epsilon / slack a step unless it is chosen in closed form."""
    x, y = batch(dtype=torch.float32)
    exact, relaxed = sinkhorn_batch(x, y), sinkhorn_batch(x, y, slack=1000.0)
    assert relaxed.iterations <= exact.iterations + 5
    torch.testing.assert_close(relaxed.plan(), exact.plan(), rtol=0, atol=1e-3)
    # the price of what is missed is of the order of cost^2 / slack
    torch.testing.assert_close(relaxed.value, exact.value, rtol=2e-3, atol=0)


@pytest.mark.parametrize("slack", [None, 0.3])
def test_clouds_far_apart_keep_plan_and_gradient(slack):
    x, y = batch(dtype=torch.float32)
    far = y + 1e4
    options = {"slack": slack, "epsilon": 0.5, "tol": 1e-5}
    if slack is None:
        options["epsilon_scale"] = "absolute"
    result = sinkhorn_batch(x, far, **options)
    exact = sinkhorn_batch(x.double(), far.double(), **options)
    torch.testing.assert_close(result.plan().double(), exact.plan(), rtol=1e-3, atol=1e-6)
    got = leaves_and_gradients(x, far, lambda result: result.value.sum(), **options)
    wanted = leaves_and_gradients(x.double(), far.double(), lambda result: result.value.sum(), **options)
    for one, other in zip(got, wanted, strict=True):
        assert relative_error(one, other) <= 1e-5


@pytest.mark.parametrize("slack", [None, 0.3])
@pytest.mark.filterwarnings("ignore:Sinkhorn stopped")  # the float64 answer to compare with
def test_scalings_beyond_float32_are_absorbed(slack):
    """On a line the plan tends to the sorted matching, with potentials hundreds of epsilons apart."""
    x = torch.linspace(0, 1, 12)[None, :, None]
    y = 3 * x**2 + x
    options = {"epsilon": 1e-3, "epsilon_scale": "absolute", "slack": slack, "max_iterations": 20_000}
    result = sinkhorn_batch(x, y, **options)
    exact = sinkhorn_batch(x.double(), y.double(), **{**options, "tol": 1e-8})
    assert result.converged.all()
    torch.testing.assert_close(result.plan().double(), exact.plan(), rtol=0, atol=2e-3)
    torch.testing.assert_close(result.value.double(), exact.value, rtol=2e-3, atol=0)


def test_points_that_agree_cost_nothing():
    for slack in (None, 0.3):
        x = torch.ones(3, 1, 4, requires_grad=True)
        result = sinkhorn_batch(x, torch.ones(3, 5, 4), slack=slack)
        result.value.sum().backward()
        torch.testing.assert_close(result.value, torch.zeros(3))
        torch.testing.assert_close(result.plan(), torch.full((3, 1, 5), 0.2))
        torch.testing.assert_close(x.grad, torch.zeros(3, 1, 4))


@pytest.mark.parametrize("slack", [None, 0.3])
def test_precision_does_not_depend_on_the_surroundings(slack):
    x, y = batch(dtype=torch.float32)

    def value_and_gradients(x, y):
        leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
        result = sinkhorn_batch(*leaves, slack=slack)
        loss = result.value.sum() + result.plan().square().sum()
        return (loss.detach(), *torch.autograd.grad(loss, leaves))

    plain = value_and_gradients(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(value_and_gradients(x, y), plain, rtol=0, atol=0)
    x, y = x.bfloat16(), y.bfloat16()
    value, *gradients = value_and_gradients(x, y)
    wanted, *_ = value_and_gradients(x.float(), y.float())
    torch.testing.assert_close(value, wanted, rtol=0, atol=0)
    assert all(gradient.dtype == torch.bfloat16 for gradient in gradients)


def test_a_second_derivative_is_refused_not_made_up():
    x, y = batch()
    x.requires_grad_()
    result = sinkhorn_batch(x, y)
    for loss in (result.value.sum(), result.plan().square().sum()):
        with pytest.raises(RuntimeError, match="has no second derivative"):
            torch.autograd.grad(loss, x, create_graph=True)


def test_projection_of_what_is_moved():
    x, y = batch()
    result = sinkhorn_batch(x, y, slack=0.3, **EXACT)
    plan = result.plan()
    torch.testing.assert_close(result.barycentric_projection(y), plan @ y / plan.sum(-1, keepdim=True))


X, Y = batch(2, 3, 4, 3, dtype=torch.float32)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (X[0], Y[0], {}, r"x must be \(B, N, D\), got shape \(3, 3\)"),
        (X[:1], Y, {}, "x and y must have the same batch shape"),
        (X[..., :2], Y, {}, "same last dimension, got 2 and 3"),
        (X.double(), Y, {}, "same dtype"),
        (X[:0], Y[:0], {}, "x must not be empty"),
        (X, Y, {"epsilon": 0.0}, "epsilon must be finite and > 0, got 0"),
        (X, Y, {"slack": 0.0}, "slack must be finite and > 0, got 0"),
        (X, Y, {"slack": "much"}, "slack must be a number"),
        (X, Y, {"tol": -1.0}, "tol must be finite and > 0"),
        (X, Y, {"max_iterations": 0}, "max_iterations must be >= 1"),
        (X, Y, {"epsilon_scale": "max"}, "epsilon_scale must be 'mean' or 'absolute'"),
        (X, Y, {"cost": "manhattan"}, "cost must be 'sqeuclidean' or 'cosine'"),
        (X, Y, {"x_mask": torch.tensor([[1, 1, 0], [0, 0, 0]])}, "x_mask must keep at least one point of every cloud"),
        (X, Y, {"y_mask": torch.ones(2, 3, dtype=torch.bool)}, r"y_mask must have shape \(2, 4\), got \(2, 3\)"),
        (X, Y, {"y_mask": torch.ones(2, 4)}, "y_mask must be boolean or integer"),
    ],
)
def test_bad_input_is_named(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_batch(x, y, **options)


@pytest.mark.parametrize("solve", [sinkhorn, sinkhorn_batch])
@pytest.mark.parametrize("problem", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_number_in_any_problem_is_named(solve, problem, value):
    y = Y.clone()
    y[problem, 1, 1] = value
    with pytest.raises(ValueError, match="y must be finite, got 1 NaN or infinite of 24"):
        solve(X, y)
