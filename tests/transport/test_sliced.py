"""Sliced transport against POT, by sorting and by quantiles."""

import ot
import pytest
import torch

from otmerge_hf.transport import sliced_wasserstein

from .clouds import clouds, weights


def directions(d, count, seed):
    """The directions that a generator with this seed yields, (count, d)."""
    drawn = torch.randn(d, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=0)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("n", "m", "weighted"), [(30, 30, False), (30, 20, False), (30, 20, True)])
def test_it_agrees_with_pot(p, n, m, weighted):
    x, y = clouds(n, m, 5, dtype=torch.float64)
    a, b = (weights(n, dtype=torch.float64), weights(m, 1, torch.float64)) if weighted else (None, None)
    generator = torch.Generator().manual_seed(7)
    value = sliced_wasserstein(x, y, num_projections=50, p=p, generator=generator, a=a, b=b)
    lines = directions(5, 50, 7)
    expected = ot.sliced_wasserstein_distance(
        x.numpy(), y.numpy(), None if a is None else a.numpy(), None if b is None else b.numpy(),
        projections=lines.numpy(), p=p,
    )  # fmt: skip
    assert value.item() == pytest.approx(expected**p, rel=1e-6)


@pytest.mark.parametrize("m", [6, 5])
def test_the_gradient_is_exact(m):
    x, y = (cloud.requires_grad_() for cloud in clouds(6, m, 3, dtype=torch.float64))

    def value(x, y):
        return sliced_wasserstein(x, y, num_projections=8, generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(value, (x, y))


def test_padding_does_not_matter_whatever_it_holds():
    x, y = clouds(10, 10, 3)
    padded = torch.cat((x, torch.full((4, 3), float("nan")))).requires_grad_()
    plain = sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(0))
    value = sliced_wasserstein(padded, y, x_mask=torch.arange(14) < 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(value, plain)
    value.backward()
    assert padded.grad[:10].isfinite().all()
    assert not padded.grad[10:].any()


def test_a_batch_shares_its_directions():
    x, y = clouds(10, 8, 3)
    batch = sliced_wasserstein(
        torch.stack((x, 2 * x)), torch.stack((y, y)), generator=torch.Generator().manual_seed(0)
    )
    alone = [sliced_wasserstein(c, y, generator=torch.Generator().manual_seed(0)) for c in (x, 2 * x)]
    torch.testing.assert_close(batch, torch.stack(alone))


def test_a_cloud_is_at_distance_zero_from_itself_with_a_gradient():
    x, _ = clouds(10, 1, 3)
    x.requires_grad_()
    value = sliced_wasserstein(x, x.detach().flip(0))
    value.backward()
    assert value == 0
    assert not x.grad.any()


@pytest.mark.parametrize(("options", "message"), [({"p": 0.5}, "p must be >= 1"), ({"num_projections": 0}, ">= 1")])
def test_bad_options_are_named(options, message):
    x, y = clouds()
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(x, y, **options)
