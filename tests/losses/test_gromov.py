import numpy as np
import ot
import pytest
import torch

from otmerge_hf.losses import GromovTerm, gromov_loss
from otmerge_hf.losses.gromov import entropic_plan


def inner(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1) / 2


def pot_gromov(x, y, epsilon, entropic):
    """POT's plan and, with its entropy, the value that the plan minimises."""
    first, second = inner(x), inner(y)
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    plan = ot.gromov.entropic_gromov_wasserstein(
        first, second, a, b, "square_loss", epsilon=epsilon, solver="PGD", tol=1e-10, max_iter=2000
    )
    differences = (first[:, None, :, None] - second[None, :, None, :]) ** 2
    return plan, float(np.einsum("ijkl,ij,kl->", differences, plan, plan)) + epsilon * entropic.kl(plan)


def absolute(x, y, epsilon):
    differences = (inner(x)[:, None, :, None] - inner(y)[None, :, None, :]) ** 2
    return epsilon * 2 * differences.mean()


def slow_gromov(x, y, epsilon, entropic):
    own = pot_gromov(x, x, epsilon, entropic)[1] + pot_gromov(y, y, epsilon, entropic)[1]
    return pot_gromov(x, y, epsilon, entropic)[1] - own / 2


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_against_pot(clouds, entropic, epsilon):
    x, y = (cloud.numpy() for cloud in clouds)
    scale = absolute(x, y, epsilon)
    plan, _ = entropic_plan(torch.tensor(inner(x)), torch.tensor(inner(y)), scale, max_iterations=500)
    np.testing.assert_allclose(plan.numpy(), pot_gromov(x, y, scale, entropic)[0], atol=2e-3)
    value = gromov_loss(*clouds, epsilon=epsilon, normalize=False, max_iterations=500)
    expected = slow_gromov(x, y, scale, entropic)
    assert value.item() == pytest.approx(expected, rel=1e-2, abs=1e-3 * scale / epsilon)


def test_gradient_against_finite_differences(clouds, entropic):
    """Along three directions: POT's descent is slow."""
    x, y = clouds[0][:4].requires_grad_(), clouds[1][:3]
    scale, step = absolute(x.detach().numpy(), y.numpy(), 0.3), 1e-4
    gromov_loss(x, y, epsilon=0.3, normalize=False, max_iterations=500).backward()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        up, down = ((x.detach() + sign * step * direction).numpy() for sign in (1, -1))
        slow = (slow_gromov(up, y.numpy(), scale, entropic) - slow_gromov(down, y.numpy(), scale, entropic)) / (
            2 * step
        )
        assert float((x.grad * direction).sum()) == pytest.approx(slow, rel=2e-2, abs=1e-2 * x.grad.norm().item())


@pytest.mark.parametrize("normalize", [True, False])
def test_rotations_and_order_do_not_matter(clouds, normalize):
    x, y = clouds
    turn = torch.linalg.qr(torch.randn(3, 3).double())[0]
    scale = gromov_loss(x, y, normalize=normalize).abs().item()
    turned = gromov_loss(x @ turn, y[torch.randperm(5)], normalize=normalize)
    assert turned.item() == pytest.approx(gromov_loss(x, y, normalize=normalize).item(), abs=2e-2 * scale)
    assert abs(gromov_loss(x, (x @ turn).flip(0), normalize=normalize).item()) < 1e-8


def test_widths_may_differ(clouds):
    x, y = clouds
    wider = torch.cat([y, torch.zeros(5, 4).double()], dim=1)
    torch.testing.assert_close(gromov_loss(x, wider), gromov_loss(x, y))


def test_descent_gives_both_clouds_one_shape():
    """An ellipse learns to be the circle, wherever that lies."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 2, generator=generator) * torch.tensor([2.0, 0.3])
    y = torch.randn(12, 2, generator=generator) + 5
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.1)
    first = gromov_loss(x, y, normalize=False).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss = gromov_loss(x, y, normalize=False)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * first


def test_refusals(clouds):
    with pytest.raises(ValueError, match="`epsilon` is 0"):
        gromov_loss(*clouds, epsilon=0.0)
    with pytest.raises(ValueError, match="at least one point"):
        gromov_loss(clouds[0], torch.zeros(0, 3))


def test_term_uses_unpaired_rows_too(make_outputs):
    outputs = make_outputs(pair_mask=torch.zeros(8))
    assert GromovTerm()(outputs) == gromov_loss(outputs.context_embeds, outputs.query_embeds)
