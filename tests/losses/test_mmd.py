import math

import pytest
import torch

from otmerge_hf.losses import MMDTerm, mmd_loss


def slow_mmd(x, y, bandwidths, scale, unbiased):
    def kernel(u, v):
        squared = float(((u - v) ** 2).sum())
        return sum(math.exp(-squared / (h * scale)) for h in bandwidths) / len(bandwidths)

    def within(points):
        count = len(points)
        values = [kernel(points[i], points[j]) for i in range(count) for j in range(count) if i != j or not unbiased]
        return sum(values) / (count * (count - unbiased))

    return within(x) + within(y) - 2 * sum(kernel(u, v) for u in x for v in y) / (len(x) * len(y))


@pytest.mark.parametrize("unbiased", [False, True])
def test_against_loops(clouds, unbiased):
    value = mmd_loss(*clouds, bandwidths=(0.5, 2.0), scale=1.5, unbiased=unbiased)
    assert value.item() == pytest.approx(slow_mmd(*clouds, (0.5, 2.0), 1.5, unbiased), rel=1e-10)


def test_default_scale_is_the_mean_squared_distance(clouds):
    points = torch.cat(clouds)
    squared = torch.cdist(points, points) ** 2
    scale = float(squared.sum() / (12 * 11))
    torch.testing.assert_close(mmd_loss(*clouds), mmd_loss(*clouds, scale=scale))


@pytest.mark.parametrize("unbiased", [False, True])
def test_gradient(clouds, unbiased):
    inputs = [cloud.requires_grad_() for cloud in clouds]
    assert torch.autograd.gradcheck(lambda x, y: mmd_loss(x, y, scale=1.5, unbiased=unbiased), inputs)


def test_order_of_points_does_not_matter(clouds):
    x, y = clouds
    torch.testing.assert_close(mmd_loss(x.flip(0), y[torch.randperm(5)]), mmd_loss(x, y))
    assert mmd_loss(x, x[torch.randperm(7)]).item() == pytest.approx(0.0, abs=1e-12)


def test_unbiased_is_zero_on_average_for_one_distribution():
    generator = torch.Generator().manual_seed(0)
    draws = [[torch.randn(16, 2, generator=generator).double() for _ in range(2)] for _ in range(200)]
    fair = torch.stack([mmd_loss(*pair, unbiased=True, scale=4.0) for pair in draws])
    assert abs(fair.mean()) < 3 * fair.std() / math.sqrt(200)
    assert torch.stack([mmd_loss(*pair, scale=4.0) for pair in draws]).mean() > 10 * abs(fair.mean())


def test_far_clouds_in_float32():
    """Kernels between points at 1e4 must not drown in rounding."""
    x = torch.randn(8, 4)
    exact = mmd_loss(x.double(), 2 * x.double(), scale=4.0)
    shifted = mmd_loss(x + 1e4, 2 * x + 1e4, scale=4.0)
    assert shifted.item() == pytest.approx(exact.item(), rel=2e-2)


def test_refusals(clouds):
    with pytest.raises(ValueError, match="`bandwidths` is"):
        mmd_loss(*clouds, bandwidths=[1.0, 0.0])
    with pytest.raises(ValueError, match="`scale` is -1"):
        mmd_loss(*clouds, scale=-1.0)
    with pytest.raises(ValueError, match="two points a side, got 1 and 5"):
        mmd_loss(clouds[0][:1], clouds[1], unbiased=True)
    with pytest.raises(ValueError, match="share one space"):
        mmd_loss(clouds[0], clouds[1][:, :2])


def test_term_uses_unpaired_rows_too(make_outputs):
    outputs = make_outputs(pair_mask=torch.zeros(8))
    assert MMDTerm()(outputs) == mmd_loss(outputs.context_embeds, outputs.query_embeds)
