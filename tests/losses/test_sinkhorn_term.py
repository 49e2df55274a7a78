import numpy as np
import pytest
import torch

from otmerge_hf.losses import SinkhornTerm, sinkhorn_loss
from otmerge_hf.losses.sinkhorn import BACKENDS


def mean_cost(x, y):
    return float((torch.cdist(x, y) ** 2).mean() / 2)


@pytest.mark.parametrize(("backend", "tolerance"), [("native", 1e-3), ("geomloss", 2e-2)])
@pytest.mark.parametrize("epsilon", [0.1, 0.5])
def test_value_against_pot(clouds, entropic, backend, tolerance, epsilon):
    x, y = clouds
    expected = entropic.divergence(x.numpy(), y.numpy(), epsilon * mean_cost(x, y))
    assert sinkhorn_loss(x, y, epsilon, backend=backend).item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(("backend", "tolerance"), [("native", 1e-2), ("geomloss", 0.12)])
def test_gradient_against_finite_differences(clouds, entropic, finite_difference, backend, tolerance):
    """Of POT's value at a fixed epsilon: the gradient holds epsilon still."""
    x, y = clouds[0].requires_grad_(), clouds[1]
    epsilon = 0.2 * mean_cost(x.detach(), y)
    sinkhorn_loss(x, y, 0.2, backend=backend).backward()
    slow = finite_difference(lambda u: entropic.divergence(u, y.numpy(), epsilon), x.detach().numpy(), step=1e-4)
    assert np.linalg.norm(x.grad.numpy() - slow) < tolerance * np.linalg.norm(slow)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_points_does_not_matter(clouds, backend):
    x, y = clouds
    shuffled = sinkhorn_loss(x.flip(0), y[torch.randperm(5)], backend=backend)
    torch.testing.assert_close(shuffled, sinkhorn_loss(x, y, backend=backend), rtol=1e-3, atol=1e-4)
    assert sinkhorn_loss(x, x.flip(0), backend=backend).item() == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_shift_costs_half_its_square(clouds, backend):
    x = clouds[0]
    shift = torch.tensor([100.0, 0.0, 0.0])
    assert sinkhorn_loss(x, x + shift, backend=backend).item() == pytest.approx(5000.0, rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_mode_is_left_as_it_was(clouds, backend):
    with torch.no_grad():
        sinkhorn_loss(*clouds, backend=backend)
        assert not torch.is_grad_enabled()
    with pytest.raises(ValueError, match=r"finite|NaN"):
        sinkhorn_loss(clouds[0] * float("nan"), clouds[1], backend=backend)
    assert torch.is_grad_enabled()


def test_normalize_compares_directions(clouds):
    x, y = clouds
    torch.testing.assert_close(sinkhorn_loss(3 * x, y, normalize=True), sinkhorn_loss(x, 5 * y, normalize=True))


def test_refusals(clouds):
    with pytest.raises(ValueError, match="`epsilon` is 0"):
        sinkhorn_loss(*clouds, epsilon=0.0)
    with pytest.raises(ValueError, match="`backend` is 'pot'"):
        sinkhorn_loss(*clouds, backend="pot")
    with pytest.raises(ValueError, match="`backend` is 'pot'"):
        SinkhornTerm(backend="pot").check(None)


def test_term_uses_unpaired_rows_too(make_outputs):
    outputs = make_outputs(pair_mask=torch.zeros(8))
    expected = sinkhorn_loss(outputs.context_embeds, outputs.query_embeds, 0.1)
    assert SinkhornTerm(epsilon=0.1)(outputs) == expected
