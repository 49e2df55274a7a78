"""The linear path's fit against scikit-learn, and what validation lets in."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from otmerge_hf.training.linear_fit import STRENGTHS, LinearFit, fit_linear_path, is_gain
from otmerge_hf.training.logistic import answer_losses


MANY = 15_000  # so many rows that the bias, which scikit-learn does not hold to anything, is free
EXACT = {"max_iterations": 2000}


def rows(count, width, answers=3, seed=0, signal=1.0):
    """Features (N, W), neither centred nor of one scale, and labels that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, width, generator=generator)
    weights = torch.randn(answers, width, generator=torch.Generator().manual_seed(99)) * signal
    noise = -torch.rand(count, answers, generator=generator).log().neg().log()  # Gumbel: a draw of the softmax
    labels = (z @ weights.T + noise).argmax(1)
    return z * torch.linspace(0.2, 5.0, width) + torch.linspace(-3.0, 8.0, width), labels


def fixed(parts, labels, strengths, answers=3):
    start = LinearFit({}, torch.zeros(answers), strengths, {})  # of the strengths alone: solved from zero
    return fit_linear_path(parts, labels, {}, labels[:0], answers, again=start, **EXACT)


def logits(fit, parts):
    made = fit.bias
    for name, weight in fit.weights.items():
        made = made + (weight * parts[name] if name == "answers" else parts[name] @ weight.T)
    return made


def standardized(x, seen):
    return ((x - seen.mean(0)) / seen.std(0)).double().numpy()


@pytest.mark.parametrize("strength", [300.0, 30_000.0])
def test_one_part_is_scikit_learns_logistic_regression(strength):
    (x, y), (new, _) = rows(MANY, 12), rows(40, 12, seed=1)
    fit = fixed({"query": x}, y, {"query": strength})
    model = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000).fit(standardized(x, x), y.numpy())
    ours = logits(fit, {"query": new}).log_softmax(1).numpy()  # rows that were not seen: what is folded in counts
    np.testing.assert_allclose(ours, model.predict_log_proba(standardized(new, x)), atol=2e-3, rtol=1e-3)
    scaled = (fit.weights["query"] * x.std(0)).numpy()
    np.testing.assert_allclose(scaled, model.coef_, atol=1e-3)
    assert fit.strengths == {"query": strength}
    assert fit.losses == {}


def test_two_parts_have_a_strength_each():
    """A penalty of its own is a scale of its own: scikit-learn's one penalty on features over the roots."""
    (x, y), (new, _) = rows(MANY, 12), rows(40, 12, seed=1)
    cut = {"query": slice(0, 5), "context": slice(5, 12)}
    strengths = {"query": 10_000.0, "context": 200.0}
    root = np.sqrt([10_000.0] * 5 + [200.0] * 7)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(standardized(x, x) / root, y.numpy())
    ours = logits(
        fixed({n: x[:, c] for n, c in cut.items()}, y, strengths), {n: new[:, c] for n, c in cut.items()}
    ).log_softmax(1)
    np.testing.assert_allclose(
        ours.numpy(), model.predict_log_proba(standardized(new, x) / root), atol=5e-3, rtol=2e-3
    )  # a strength of 10,500 for 10,000, or of 220 for 200, is beyond this


def test_soft_labels_are_binary_regressions():
    """A target p is a row labelled 1 with weight p and a row labelled 0 with weight 1 - p."""
    x, _ = rows(80, 4)
    soft = torch.rand(80, 2, generator=torch.Generator().manual_seed(5))
    fit = fixed({"query": x}, soft, {"query": 10.0}, answers=2)
    z = standardized(x, x)
    for answer in range(2):
        p = soft[:, answer].double().numpy()
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)
        model.fit(np.concatenate([z, z]), [1] * 80 + [0] * 80, sample_weight=np.concatenate([p, 1 - p]))
        np.testing.assert_allclose(logits(fit, {"query": x})[:, answer], model.decision_function(z), atol=2e-3)


def test_answers_share_one_weight_that_is_a_minimum():
    generator = torch.Generator().manual_seed(2)
    y = torch.randint(0, 3, (90,), generator=generator)
    part = 0.1 * torch.randn(90, 3, generator=generator) + 0.1 * torch.nn.functional.one_hot(y, 3)
    fit = fixed({"answers": part}, y, {"answers": 4.0})
    assert fit.weights["answers"].shape == (1,)
    assert fit.weights["answers"] > 3
    spread = (part - part.mean(0)).std().double()
    weight, bias = (v.double().requires_grad_() for v in (fit.weights["answers"], fit.bias))
    losses = torch.nn.functional.cross_entropy(weight * part + bias, y, reduction="sum")
    (losses + 2.0 * (weight * spread).square().sum()).backward()
    assert (weight.grad / spread).abs() < 5e-2  # of 90 rows; a strength of 3.9 would leave 0.1
    assert bias.grad.abs().max() < 5e-2


def test_rows_without_a_label_do_not_count():
    (x, y), (eval_x, eval_y) = rows(120, 5), rows(60, 5, seed=1)
    junk, none = torch.full((30, 5), 1e3), torch.full((30,), -100)
    clean = fit_linear_path({"query": x}, y, {"query": eval_x}, eval_y, 3)
    mixed = fit_linear_path(
        {"query": torch.cat([x, junk])},
        torch.cat([y, none]),
        {"query": torch.cat([junk, eval_x])},
        torch.cat([none, eval_y]),
        3,
    )
    assert torch.equal(mixed.weights["query"], clean.weights["query"])
    assert torch.equal(mixed.bias, clean.bias)
    assert mixed.losses == clean.losses
    assert answer_losses(torch.zeros(3, 2), torch.tensor([0, -100, 1])).tolist() == pytest.approx([np.log(2)] * 2)


def test_a_useful_part_is_kept_and_a_useless_one_left_out():
    (x, y), (eval_x, eval_y) = rows(200, 10), rows(200, 10, seed=1)
    noise, eval_noise = rows(200, 30, seed=2)[0], rows(200, 30, seed=3)[0]
    fit = fit_linear_path(
        {"context": noise, "query": x, "cosine": noise[:, :1]},
        y,
        {"context": eval_noise, "query": eval_x, "cosine": eval_noise[:, :1]},
        eval_y,
        3,
    )
    assert list(fit.weights) == list(fit.strengths) == ["query"]
    assert list(fit.losses) == ["bias", "context", "query", "cosine"]
    assert fit.losses["query"] < fit.losses["bias"] - 0.1
    wanted = torch.nn.functional.cross_entropy(logits(fit, {"query": eval_x}), eval_y)
    assert fit.losses["query"] == pytest.approx(wanted.item(), abs=1e-4)
    shares = torch.bincount(y, minlength=3) / 200  # the bias alone: the answers' frequencies
    assert fit.losses["bias"] == pytest.approx(-shares.log()[eval_y].mean().item(), abs=1e-4)


def test_the_strength_is_the_best_on_validation():
    (x, y), (eval_x, eval_y) = rows(120, 40, signal=0.15), rows(400, 40, signal=0.15, seed=1)
    fit = fit_linear_path({"query": x}, y, {"query": eval_x}, eval_y, 3, **EXACT)
    losses = {
        strength: torch.nn.functional.cross_entropy(
            logits(fixed({"query": x}, y, {"query": strength}), {"query": eval_x}), eval_y
        )
        for strength in STRENGTHS
    }
    best = min(losses, key=losses.get)
    assert fit.strengths["query"] == best
    assert best not in (STRENGTHS[0], STRENGTHS[-1])


def test_given_strengths_are_the_fit_that_chose_them():
    (x, y), (eval_x, eval_y) = rows(150, 12), rows(150, 12, seed=1)
    parts, eval_parts = {"query": x, "cosine": x[:, :1]}, {"query": eval_x, "cosine": eval_x[:, :1]}
    chosen = fit_linear_path(parts, y, eval_parts, eval_y, 3, **EXACT)
    again = fixed(parts, y, chosen.strengths)
    assert again.strengths == chosen.strengths
    torch.testing.assert_close(logits(again, eval_parts), logits(chosen, eval_parts), atol=2e-2, rtol=5e-3)


def test_a_dead_dimension_is_left_alone():
    (x, y), (eval_x, eval_y) = rows(100, 12), rows(100, 12, seed=1)
    x[:, 3], eval_x[:, 3] = 2.0, 2.0 + torch.randn(100)
    fit = fit_linear_path({"query": x}, y, {"query": eval_x}, eval_y, 3)
    assert fit.weights["query"].isfinite().all()
    assert fit.weights["query"][:, 3].abs().max() < 1e-4


def test_a_gain_is_more_than_a_standard_error():
    before = torch.ones(100)
    fall = torch.cat([torch.full((50,), 0.1), torch.full((50,), -0.1)])  # its standard error is 0.01005
    assert is_gain(before, before - fall - 0.0101)
    assert not is_gain(before, before - fall - 0.0100)
    assert not is_gain(before, before)


def test_refusals():
    (x, y), none = rows(20, 5), torch.full((20,), -100)
    broken = x.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(ValueError, match="The part `query` of the linear path holds NaN"):
        fit_linear_path({"query": broken}, y, {"query": x}, y, 3)
    with pytest.raises(ValueError, match="The part `query` of the linear path holds NaN"):
        fit_linear_path({"query": x}, y, {"query": broken}, y, 3)
    with pytest.raises(ValueError, match=r"^`labels` holds no label but -100"):
        fit_linear_path({"query": x}, none, {"query": x}, y, 3)
    with pytest.raises(ValueError, match=r"^`eval_labels` holds no label but -100"):
        fit_linear_path({"query": x}, y, {"query": x}, none, 3)


def test_rows_that_are_the_same_count_as_often_as_they_come():
    """A context of many questions is one row of the products; scikit-learn sees it as often as it comes."""
    (x, _), (z, y) = rows(40, 12), rows(MANY, 10, seed=1)
    owner = torch.randint(0, 40, (MANY,), generator=torch.Generator().manual_seed(2))
    strengths = {"context": 300.0, "query": 300.0}
    fit = fixed({"context": x[owner], "query": z}, y, strengths)
    both = np.hstack([standardized(x[owner], x[owner]), standardized(z, z)])
    model = LogisticRegression(C=1 / 300, tol=1e-8, max_iter=5000).fit(both, y.numpy())
    ours = logits(fit, {"context": x[owner][:50], "query": z[:50]}).log_softmax(1).numpy()
    np.testing.assert_allclose(ours, model.predict_log_proba(both[:50]), atol=2e-3, rtol=1e-3)


def test_an_answer_that_no_training_row_has_is_rare_and_not_impossible():
    (x, y), (eval_x, _) = rows(300, 6), rows(300, 6, seed=1)
    fits = [fixed({"query": x}, y, {"query": 10.0}, answers) for answers in (3, 4)]
    unseen = logits(fits[1], {"query": eval_x}).softmax(1)[:, 3]
    assert 1e-4 < unseen.mean() < 2e-2  # once in some 300 rows
    torch.testing.assert_close(
        *(logits(fit, {"query": eval_x})[:, :3].softmax(1) for fit in fits), atol=1e-2, rtol=1e-2
    )


@pytest.mark.parametrize("kind", ["hard", "soft", "weighted"])
def test_the_gradient_of_the_formula_is_zero_at_the_fit(kind):
    """With few rows, where what holds the bias counts; by autograd on the formula of the docstring."""
    (x, y), strength = rows(60, 12), 3.0
    soft, weights = kind == "soft", torch.tensor([1.0, 0.5, 2.0]) if kind == "weighted" else None
    labels = torch.nn.functional.one_hot(y, 3) * 0.7 if soft else y
    start = LinearFit({}, torch.zeros(3), {"query": strength}, {})
    fit = fit_linear_path({"query": x}, labels, {}, labels[:0], 3, again=start, class_weights=weights, **EXACT)
    z = torch.as_tensor(standardized(x, x))
    slope = (fit.weights["query"] * x.std(0)).double().requires_grad_()
    bias = (fit.bias + fit.weights["query"] @ x.mean(0)).double().requires_grad_()
    logits_ = z @ slope.T + bias
    if soft:
        share = (labels.sum(0) + 0.5) / 61
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits_, labels.double(), reduction="sum")
        held = share.logit()
    else:
        seen = (torch.bincount(y, minlength=3) + 1) * (1 if weights is None else weights)
        held = (seen / seen.sum()).log()
        given = None if weights is None else weights.double()
        losses = torch.nn.functional.cross_entropy(logits_, y, weight=given, reduction="sum")
    value = losses + strength / 2 * slope.square().sum() + (bias - held).square().sum() / 2
    for gradient in torch.autograd.grad(value, (slope, bias)):
        assert gradient.abs().max() < 2e-2  # twice the penalty of the bias is 0.3 off


@pytest.mark.parametrize("given", ["constant", "one row"])
def test_a_part_that_says_nothing_is_left_out(given):
    (x, y), (eval_x, eval_y) = rows(60, 12), rows(30, 12, seed=1)
    if given == "constant":
        x, eval_x = torch.zeros_like(x), torch.zeros_like(eval_x)
    else:
        y = torch.where(torch.arange(60) == 0, y, -100)
    fit = fit_linear_path({"context": x}, y, {"context": eval_x}, eval_y, 3)
    assert fit.strengths == {}
    assert fit.bias.isfinite().all()


def test_an_answer_of_no_weight_keeps_a_finite_bias():
    (x, y), (eval_x, eval_y) = rows(60, 12), rows(30, 12, seed=1)
    weights = torch.tensor([1.0, 0.0, 1.0])
    fit = fit_linear_path({"query": x}, y, {"query": eval_x}, eval_y, 3, class_weights=weights)
    assert fit.bias.isfinite().all()
    assert not (logits(fit, {"query": eval_x}).argmax(1) == 1).any()
