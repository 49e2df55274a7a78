"""Paired and reconstruction: means over rows."""

import pytest
import torch

from otmerge_hf.losses import PairedTerm, ReconstructionTerm, paired_loss, reconstruction_loss


def test_paired_by_hand():
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.randn(6, 3, dtype=torch.float64)
    slow = sum(float(((a - b) ** 2).sum()) for a, b in zip(x, y, strict=True)) / 6
    assert paired_loss(x, y).item() == pytest.approx(slow, rel=1e-12)


def test_paired_gradient(clouds):
    x = clouds[0].requires_grad_()
    y = (2 * clouds[0]).detach().requires_grad_()
    assert torch.autograd.gradcheck(paired_loss, (x, y))


def test_paired_refuses_rows_without_partner(clouds):
    with pytest.raises(ValueError, match="same shape"):
        paired_loss(*clouds)


def test_paired_term_sees_pairs_only(make_outputs):
    outputs = make_outputs(pair_mask=torch.tensor([1, 0, 1, 0, 0, 0, 1, 0]))
    rows = [0, 2, 6]
    expected = (outputs.context_embeds[rows] - outputs.query_embeds[rows]).square().sum(1).mean()
    assert PairedTerm()(outputs).item() == pytest.approx(expected.item(), rel=1e-6)


def test_without_pairs_the_value_is_zero_and_has_a_graph(make_outputs):
    context = torch.randn(4, 3, requires_grad=True)
    outputs = make_outputs(rows=4, context=context, query=torch.randn(4, 3), pair_mask=torch.zeros(4))
    value = PairedTerm()(outputs)
    value.backward()
    assert value.item() == 0
    assert torch.equal(context.grad, torch.zeros_like(context))


def reconstruct_slowly(reconstruction, tokens, mask):
    rows = []
    for guess, truth, kept in zip(reconstruction, tokens, mask, strict=True):
        errors = [float(((g - t) ** 2).mean()) for g, t, k in zip(guess, truth, kept, strict=True) if k]
        rows.append(sum(errors) / len(errors))
    return sum(rows) / len(rows)


def test_reconstruction_by_hand():
    guess, truth = torch.randn(3, 4, 2).double(), torch.randn(3, 4, 2).double()
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    expected = reconstruct_slowly(guess, truth, mask)
    assert reconstruction_loss(guess, truth, mask).item() == pytest.approx(expected, rel=1e-12)
    everything = reconstruct_slowly(guess, truth, torch.ones(3, 4))
    assert reconstruction_loss(guess, truth).item() == pytest.approx(everything, rel=1e-12)


def test_reconstruction_gradient():
    guess, truth = torch.randn(2, 3, 2).double().requires_grad_(), torch.randn(2, 3, 2).double().requires_grad_()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.autograd.gradcheck(lambda g, t: reconstruction_loss(g, t, mask), (guess, truth))


def test_padding_does_not_matter():
    guess, truth, mask = torch.randn(2, 3, 2), torch.randn(2, 3, 2), torch.tensor([[1, 1, 0], [1, 1, 0]])
    other = guess.clone()
    other[:, 2] = 1e6
    assert reconstruction_loss(guess, truth, mask) == reconstruction_loss(other, truth, mask)


def test_reconstruction_refuses_other_shapes():
    with pytest.raises(ValueError, match="one shape"):
        reconstruction_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))


def test_reconstruction_term_averages_the_sides(make_outputs):
    outputs = make_outputs()
    outputs.context_reconstruction = outputs.context_tokens + 2.0
    outputs.query_reconstruction = outputs.query_tokens + 1.0
    assert ReconstructionTerm()(outputs).item() == pytest.approx((4 + 1) / 2, rel=1e-5)
