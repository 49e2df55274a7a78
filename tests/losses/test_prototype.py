import numpy as np
import ot
import pytest
import torch
from scipy.linalg import sqrtm

from otmerge_hf.losses import PrototypeTerm, prototype_loss
from otmerge_hf.losses.prototype import _components, batch_moments, first_moments


def moments(seed, count=4, dim=3):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    deviation = torch.rand(count, dim, generator=generator, dtype=torch.float64) + 0.2
    return torch.stack([mean, mean**2 + deviation**2])


def test_cost_is_the_distance_of_gaussians():
    """Half the squared Bures-Wasserstein distance, by matrix square roots."""
    first, second = moments(0), moments(1)
    points = [_components(m) for m in (first, second)]
    for k in range(4):
        means, covariances = [], []
        for mean, square in ((first[0][k], first[1][k]), (second[0][k], second[1][k])):
            means.append(mean.numpy())
            covariances.append(np.diag((square - mean**2).numpy()))
        root = sqrtm(covariances[0])
        cross = sqrtm(root @ covariances[1] @ root)
        bures = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * cross)
        own = (points[0][k] - points[1][k]).square().sum()
        assert own.item() == pytest.approx(float(bures), rel=1e-4)


def test_value_against_pot(entropic):
    first, second = moments(0), moments(1)
    x, y = _components(first).numpy(), _components(second).numpy()
    epsilon = 0.1 * ((x[:, None] - y[None]) ** 2).sum(-1).mean() / 2
    expected = entropic.divergence(x, y, epsilon)
    assert prototype_loss(first, second, 0.1).item() == pytest.approx(expected, rel=1e-3)


def test_gradient_against_finite_differences(entropic, finite_difference):
    first, second = moments(0).requires_grad_(), moments(1)
    y = _components(second).numpy()
    x = _components(first.detach()).numpy()
    epsilon = 0.3 * ((x[:, None] - y[None]) ** 2).sum(-1).mean() / 2

    def slow(array):
        return entropic.divergence(_components(torch.tensor(array)).numpy(), y, epsilon)

    prototype_loss(first, second, 0.3).backward()
    expected = finite_difference(slow, first.detach().numpy(), step=1e-4)
    assert np.linalg.norm(first.grad.numpy() - expected) < 1e-2 * np.linalg.norm(expected)


def test_labels_of_prototypes_do_not_matter():
    first = moments(0)
    order = torch.randperm(4)
    assert abs(prototype_loss(first, first[:, order]).item()) < 1e-3
    torch.testing.assert_close(
        prototype_loss(first[:, order], moments(1)), prototype_loss(first, moments(1)), rtol=1e-3, atol=1e-4
    )


def test_assignment_is_a_balanced_plan(clouds):
    x, means = clouds
    cost = ((x[:, None] - means[None]) ** 2).sum(-1).numpy()
    plan = ot.sinkhorn(np.full(7, 1 / 7), np.full(5, 1 / 5), cost, 0.2 * cost.mean(), stopThr=1e-12)
    shares = torch.tensor(plan / plan.sum(0)).T
    expected = torch.stack([shares @ x, shares @ x**2])
    torch.testing.assert_close(batch_moments(x, means, 0.2), expected, rtol=1e-2, atol=1e-2)


def test_no_prototype_starves():
    """Three tight clusters of very different size: the plan splits the big one, every prototype keeps its mass."""
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = torch.cat([centres[i] + 0.1 * torch.randn(n, 2) for i, n in enumerate((30, 15, 15))])
    found = first_moments(points, 4)[0]
    distances = torch.cdist(centres, found).min(dim=1).values
    assert distances.max() < 0.5
    assert torch.isfinite(found).all()


def test_average_moves_and_gradient_is_the_batchs(make_outputs):
    """Value at the average, slope in the batch: what compositional gradient descent asks for."""
    term = PrototypeTerm(prototypes=2, momentum=0.75, epsilon=0.2)
    term(make_outputs(seed=0))
    before = term.buffers()
    context = torch.randn(8, 4, requires_grad=True)
    outputs = make_outputs(seed=1, context=context)
    value = term(outputs)
    value.backward()
    batch = {
        "context": batch_moments(context.detach(), before["context"][0], 0.2),
        "query": batch_moments(outputs.query_embeds, before["query"][0], 0.2),
    }
    moved = {side: 0.75 * before[side] + 0.25 * batch[side] for side in batch}
    for side, expected in moved.items():
        torch.testing.assert_close(term.buffers()[side], expected)
    leaf = moved["context"].clone().requires_grad_()
    expected_value = prototype_loss(leaf, moved["query"], 0.2)
    expected_value.backward()
    torch.testing.assert_close(value, expected_value)
    again = context.detach().clone().requires_grad_()
    (batch_moments(again, before["context"][0], 0.2) * leaf.grad).sum().backward()
    torch.testing.assert_close(context.grad, again.grad, rtol=1e-3, atol=1e-6)


def test_evaluation_leaves_the_averages_alone(make_outputs):
    term = PrototypeTerm(prototypes=2)
    term(make_outputs(seed=0))
    before = term.buffers()
    with torch.no_grad():
        term(make_outputs(seed=1))
    assert all(torch.equal(before[side], term.buffers()[side]) for side in ("context", "query"))


def test_small_batches_see_the_whole_cloud():
    """One distribution on both sides: averages over batches end nearer to zero than one batch's moments do."""
    from otmerge_hf.model.modeling_otmerge import OTMergeOutput

    generator = torch.Generator().manual_seed(0)
    remembering, forgetting = PrototypeTerm(2, 0.95), PrototypeTerm(2, 0.0)
    values = {}
    for _ in range(80):
        sides = [torch.randn(16, 8, generator=generator) for _ in range(2)]
        outputs = OTMergeOutput(context_embeds=sides[0], query_embeds=sides[1])
        for name, term in (("remembering", remembering), ("forgetting", forgetting)):
            values.setdefault(name, []).append(term(outputs).item())
    assert np.mean(values["remembering"][40:]) < 0.5 * np.mean(values["forgetting"][40:])


def test_refusals(make_outputs):
    with pytest.raises(ValueError, match="8 points for 16 prototypes"):
        PrototypeTerm()(make_outputs())
    with pytest.raises(ValueError, match="`momentum` 1"):
        PrototypeTerm(momentum=1.0)
    with pytest.raises(ValueError, match="`query_moments` has shape"):
        prototype_loss(moments(0), moments(1)[0])
