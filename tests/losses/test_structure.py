import numpy as np
import pytest
import torch

from otmerge_hf.losses import StructureTerm, structure_loss


def slow_structure(features, embeds, temperature, levels):
    def walk(points):
        directions = points / np.linalg.norm(points, axis=1, keepdims=True)
        directions = directions - directions.mean(axis=0)
        weights = np.exp(directions @ directions.T / temperature)
        return weights / weights.sum(axis=1, keepdims=True)

    total = 0.0
    for level in range(1, levels + 1):
        p, q = (np.linalg.matrix_power(walk(points), level) for points in (features, embeds))
        mixture = (p + q) / 2
        for i in range(len(p)):
            total += sum((r[i] * np.log(r[i] / mixture[i])).sum() / 2 for r in (p, q)) / (level * len(p))
    return total / levels


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(3)
    return torch.randn(6, 5, generator=generator).double(), torch.randn(6, 3, generator=generator).double()


@pytest.mark.parametrize("levels", [1, 3])
def test_against_loops(sides, levels):
    slow = slow_structure(*(side.numpy() for side in sides), 0.2, levels)
    assert structure_loss(*sides, temperature=0.2, levels=levels).item() == pytest.approx(slow, rel=1e-10)


def test_divergence_is_jensen_and_shannons(sides):
    from scipy.spatial.distance import jensenshannon

    from otmerge_hf.losses.structure import _jensen_shannon

    p, q = torch.softmax(sides[0], 1), torch.softmax(sides[0].flip(1), 1)
    np.testing.assert_allclose(_jensen_shannon(p, q), jensenshannon(p, q, axis=1) ** 2, rtol=1e-10)


def test_gradient(sides):
    features, embeds = sides[0].requires_grad_(), sides[1].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: structure_loss(features, z, levels=2), (embeds,))
    structure_loss(features, embeds).backward()
    assert features.grad is None  # the encoder's neighbourhoods are the target, not a partner


def test_order_of_points_does_not_matter(sides):
    order = torch.randperm(6)
    torch.testing.assert_close(structure_loss(sides[0][order], sides[1][order]), structure_loss(*sides))


def test_refusals(sides):
    with pytest.raises(ValueError, match="one row per point"):
        structure_loss(sides[0], sides[1][:4])
    with pytest.raises(ValueError, match="`temperature` is 0"):
        structure_loss(*sides, temperature=0.0)
    with pytest.raises(ValueError, match="`levels` is 0"):
        structure_loss(*sides, levels=0)


def test_term_averages_both_sides_token_means(make_outputs):
    outputs = make_outputs(pair_mask=torch.zeros(8))
    context = structure_loss(outputs.context_tokens[:, :2].mean(1), outputs.context_embeds, 0.2)
    query = structure_loss(outputs.query_tokens.mean(1), outputs.query_embeds, 0.2)
    torch.testing.assert_close(StructureTerm(temperature=0.2)(outputs), (context + query) / 2)
