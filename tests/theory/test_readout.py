"""Section 8 of docs/theory.md: why one aligned cosine is read from few labels, and attention is not."""

import re
from pathlib import Path

import pytest
import torch

from .draws import normal, orthogonal


STRENGTH = 3.0  # of the labels: P(yes) = sigmoid(STRENGTH * t), t = <u, v> / sqrt(d)


def draw(n, d, seed):
    """Two vectors of d numbers a row, their scaled inner product t (n,), and labels 1 or -1 made from it."""
    u, v = normal(n, d, seed=3 * seed), normal(n, d, seed=3 * seed + 1)
    t = (u * v).sum(1) / d**0.5
    coins = torch.rand(n, generator=torch.Generator().manual_seed(3 * seed + 2), dtype=torch.float64)
    return u, v, t, torch.where(coins < torch.sigmoid(STRENGTH * t), 1.0, -1.0).double()


def products(u, v):
    """All d^2 products of a number of u and a number of v, (n, d^2): what a bilinear form is linear in."""
    return (u[:, :, None] * v[:, None, :]).flatten(1)


def logistic(features, labels, penalty=0.0, steps=6):
    """Weights of a logistic regression without intercept, by Newton's method."""
    weights = features.new_zeros(features.shape[1])
    for _ in range(steps):
        doubt = torch.sigmoid(-labels * (features @ weights))
        slope = penalty * weights - (labels * doubt) @ features / len(labels)
        curvature = (features * (doubt * (1 - doubt))[:, None]).T @ features / len(labels)
        curvature += penalty * torch.eye(len(weights)).to(weights)
        weights = weights - torch.linalg.solve(curvature, slope)
    return weights


def accuracy(scores, labels):
    return (scores * labels > 0).double().mean().item()


def test_labels_needed_are_proportional_to_the_numbers_learned():
    d, n = 4, 1500
    u, v, t, _ = draw(8000, d, seed=500)
    truth = torch.sigmoid(STRENGTH * t)

    def excess(features, of, runs):
        """Mean log loss above that of the true probabilities, in nats, over trainings on n labels."""
        found = []
        for seed in range(runs):
            *sides, labels = draw(n, d, seed)
            scores = features @ logistic(of(*sides), labels)
            loss = torch.nn.functional.binary_cross_entropy_with_logits
            found.append((loss(scores, truth) - loss(STRENGTH * t, truth)).item())
        return sum(found) / runs

    one = excess(t[:, None], lambda u, v, t: t[:, None], runs=120)
    all_products = excess(products(u, v), lambda u, v, t: products(u, v), runs=40)
    assert one == pytest.approx(1 / (2 * n), rel=0.3)
    assert all_products == pytest.approx(d**2 / (2 * n), rel=0.15)


def direction(n, d, t):
    """Correlation of the products' regression with the truth, predicted (statement 8.2)."""
    gain = (torch.tanh(STRENGTH * t / 2) * t).mean().item()
    return (1 + d**2 / (n * gain**2)) ** -0.5


def predicted_accuracy(n, d, t):
    c = direction(n, d, t)
    agree = torch.erf(c * t / (2 * (1 - c**2)) ** 0.5)
    return (0.5 + 0.5 * (torch.tanh(STRENGTH * t / 2) * agree).mean()).item()


def test_accuracy_from_few_labels_as_predicted():
    page = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d,]+) \| \d+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    assert direction(3000, 256, normal(100_000)) == pytest.approx(0.15, abs=0.005)
    for d, n, *shown in rows:
        d, n = int(d), int(n.replace(",", ""))
        u, v, t, labels = draw(6000, d, seed=900)
        tested, found = products(u, v), []
        for seed in range(3):
            u, v, s, known = draw(n, d, seed)
            learned = logistic(products(u, v), known, penalty=1.0)
            cosine = logistic(s[:, None], known)
            found.append((accuracy(tested @ learned, labels), accuracy(t[:, None] @ cosine, labels)))
        by_products, by_cosine = torch.tensor(found).mean(0).tolist()
        predicted = predicted_accuracy(n, d, t)
        assert by_products == pytest.approx(predicted, abs=0.025)
        assert by_cosine == pytest.approx(accuracy(t, labels), abs=1e-6)  # a positive weight is all that it needs
        assert [float(s) for s in shown] == pytest.approx([predicted, by_products, by_cosine], abs=0.01)


def test_a_cosine_of_unaligned_sides_says_nothing():
    d, turn = 8, orthogonal(8, seed=1)
    _, _, t, labels = draw(20_000, d, seed=901)
    u, v, *_ = draw(20_000, d, seed=901)
    crooked = (u * (v @ turn)).sum(1) / d**0.5  # the same encoder, before alignment
    overlap = (turn.trace() / d).item()  # what is left of the cosine: the correlation with t
    assert torch.corrcoef(torch.stack((crooked, t)))[0, 1].item() == pytest.approx(overlap, abs=0.03)
    assert abs(accuracy(crooked, labels) - 0.5) < 0.1 < accuracy(t, labels) - 0.7
    u, v, _, known = draw(4096, d, seed=2)
    learned = logistic(products(u, v @ turn), known)
    u, v, *_ = draw(20_000, d, seed=901)
    scores = products(u, v @ turn) @ learned
    assert accuracy(scores, labels) > accuracy(t, labels) - 0.02  # with 64 labels a number, what is aligned is learned


def train_attention(optimizer, query, tokens, labels, weights, steps=25):
    """One attention head and a linear output, trained on all rows; the logits after every step."""
    weights = [w.clone().requires_grad_() for w in weights]
    to_query, to_key, to_value, output = weights
    steps_taken, stepper = [], optimizer(weights, lr=0.1)
    for _ in range(steps):
        scores = torch.einsum("nd,nsd->ns", query @ to_query, tokens @ to_key)
        read = torch.einsum("ns,nsd->nd", scores.softmax(-1), tokens @ to_value)
        logits = (read * (query @ output)).sum(-1)
        stepper.zero_grad()
        torch.nn.functional.softplus(-labels * logits).mean().backward()
        stepper.step()
        steps_taken.append(logits.detach())
    return torch.stack(steps_taken)


def test_attention_by_gradient_descent_cannot_see_that_its_sides_are_aligned():
    d, width, turn = 6, 5, orthogonal(6, seed=3)
    query, tokens = normal(80, d, seed=4), normal(80, 7, d, seed=5)
    labels = (query * tokens[:, 0]).sum(1).sign()
    weights = [normal(d, width, seed=seed) / d for seed in (6, 7, 8, 9)]
    turned = [weights[0], turn.T @ weights[1], turn.T @ weights[2], weights[3]]  # as likely a start as `weights`
    sgd, adam = torch.optim.SGD, torch.optim.Adam
    aligned = train_attention(sgd, query, tokens, labels, weights)
    crooked = train_attention(sgd, query, tokens @ turn, labels, turned)
    assert (aligned[-1] - aligned[0]).norm() > 0.1 * aligned[0].norm()  # it did learn
    torch.testing.assert_close(aligned, crooked, rtol=1e-9, atol=1e-9)  # and the same, step by step
    moved = train_attention(adam, query, tokens @ turn, labels, turned) - train_attention(
        adam, query, tokens, labels, weights
    )
    assert moved[-1].norm() > 1e-3  # Adam scales each coordinate: the statement is about gradient descent
