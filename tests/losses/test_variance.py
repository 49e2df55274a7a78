import numpy as np
import pytest
import torch

from otmerge_hf.losses import VarianceTerm, variance_loss


def test_by_hand(clouds):
    x = clouds[1]
    spread = np.sqrt(x.numpy().var(axis=0, ddof=1) + 1e-4)
    assert variance_loss(x, floor=0.8).item() == pytest.approx(np.maximum(0, 0.8 - spread).mean(), rel=1e-12)


def test_gradient(clouds):
    assert torch.autograd.gradcheck(lambda x: variance_loss(x, floor=3.0), (clouds[0].requires_grad_(),))


def test_one_row_gives_the_full_floor():
    x = torch.randn(1, 3, requires_grad=True)
    value = variance_loss(x, floor=2.0)
    value.backward()
    assert value.item() == pytest.approx(2.0 - 1e-2)
    assert x.grad.abs().max() == 0


@pytest.mark.parametrize(("embeds", "floor", "message"), [((3,), 1.0, "expected"), ((3, 2), 0.0, "`floor` is 0.0")])
def test_refusals(embeds, floor, message):
    with pytest.raises(ValueError, match=message):
        variance_loss(torch.zeros(*embeds), floor)


def test_term_averages_the_sides(make_outputs):
    outputs = make_outputs()
    expected = (variance_loss(outputs.context_embeds, 2.0) + variance_loss(outputs.query_embeds, 2.0)) / 2
    assert VarianceTerm(floor=2.0)(outputs) == expected
