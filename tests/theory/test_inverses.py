"""Section 6 of docs/theory.md: which maps can be inverted, and where."""

from math import pi

import pytest
import torch
from scipy.optimize import brentq, fsolve

from otmerge_hf.model.adapters import LinearAdapter, MLPAdapter, OrthogonalAdapter

from .draws import normal, orthogonal


def adapter(kind, in_dim, out_dim, *options, seed=0):
    """An adapter with weights that are not small, in float64."""
    made = kind(in_dim, out_dim, *options).double()
    for number, parameter in enumerate(made.parameters()):
        parameter.data = normal(*parameter.shape, seed=seed + number)
    return made.requires_grad_(False)


def same(a, b):
    return torch.allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", [LinearAdapter, OrthogonalAdapter])
def test_a_map_down_has_a_right_inverse_and_no_left_inverse(kind):
    down, x, z = adapter(kind, 6, 4), normal(20, 6, seed=1), normal(20, 4, seed=2)
    assert same(down(down.inverse(z)), z)
    assert not same(down.inverse(down(x)), x)
    unseen = torch.linalg.svd(down(torch.eye(6, dtype=torch.float64)) - down(torch.zeros(6).double()))[0][:, 4:].T
    assert same(down(x + unseen[0]), down(x))  # two inputs, one output: no function can undo it


@pytest.mark.parametrize("kind", [LinearAdapter, OrthogonalAdapter])
def test_a_map_up_has_a_left_inverse_and_no_right_inverse(kind):
    up, x, z = adapter(kind, 4, 6), normal(20, 4, seed=1), normal(20, 6, seed=2)
    assert same(up.inverse(up(x)), x)
    assert not same(up(up.inverse(z)), z)
    missed = z - up(up.inverse(z))
    assert same(missed @ (up(x) - up(x[:1])).T, torch.zeros(20, 20).double())  # at right angles: the nearest f(x)


def best_linear_decoding_error(x, z):
    x, z = x - x.mean(0), z - z.mean(0)
    return (x - z @ torch.linalg.lstsq(z, x).solution).square().sum(1).mean()


def test_no_linear_map_keeps_more_than_the_principal_components():
    x = normal(300, 8, seed=3) @ normal(8, 8, seed=4)
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    torch.testing.assert_close(best_linear_decoding_error(x, x @ vectors[:, -3:]), values[:-3].sum())
    for seed in range(20):
        assert best_linear_decoding_error(x, x @ normal(8, 3, seed=seed)) > 1.02 * values[:-3].sum()


def test_a_map_down_is_exactly_invertible_on_a_subspace_that_fits():
    for rank, exact in ((3, True), (4, True), (5, False)):
        x = normal(200, rank, seed=5) @ normal(rank, 12, seed=6) + 1.0
        z = adapter(LinearAdapter, 12, 4)(x)
        share = best_linear_decoding_error(x, z) / x.var(0).sum()
        assert (share < 1e-20) if exact else (share > 1e-3)


def test_a_map_down_is_injective_on_a_curve_from_three_dimensions_on():
    steps = 600
    angles = 2 * pi * torch.arange(steps, dtype=torch.float64) / steps
    waves = torch.cat([torch.stack(((k * angles).cos(), (k * angles).sin()), 1) / k for k in (1, 2, 3)], 1)
    curve = waves @ orthogonal(20, seed=7)[:6]  # a closed curve in R^20 that spans six dimensions
    apart = torch.arange(steps)
    apart = (apart[:, None] - apart).abs()
    apart = torch.minimum(apart, steps - apart) > 15  # not neighbours along the curve

    def crossings(z):
        """Pairs of segments of a plane curve that cross."""
        ends = z.roll(-1, 0)

        def side(a, b, c):
            return (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0] > 0

        i, j = torch.triu_indices(steps, steps, 2)
        one = side(z[i], ends[i], z[j]) != side(z[i], ends[i], ends[j])
        two = side(z[j], ends[j], z[i]) != side(z[j], ends[j], ends[i])
        return int((one & two & apart[i, j]).sum())

    assert sum(crossings(curve @ normal(20, 2, seed=seed)) > 0 for seed in range(5)) >= 3
    for seed in range(5):
        z = curve @ normal(20, 3, seed=seed)
        gaps = torch.cdist(z, z)[apart]
        step = (z - z.roll(-1, 0)).norm(dim=1).max()
        assert gaps.min() > step  # no two far parts of the curve meet, nor do their segments


def test_every_continuous_map_down_sends_two_opposite_points_to_one():
    line = adapter(MLPAdapter, 2, 1, 16, seed=1)

    def difference(angle):
        x = torch.tensor([angle, angle + pi], dtype=torch.float64)
        out = line(torch.stack((x.cos(), x.sin()), 1))
        return (out[0] - out[1]).item()

    angle = brentq(difference, 0.0, pi)  # it changes sign on a half turn, so there is a zero
    assert abs(difference(angle)) < 1e-10
    plane = adapter(MLPAdapter, 3, 2, 16, seed=2)

    def gap(point):
        x = torch.as_tensor(point / (point @ point) ** 0.5)
        return torch.cat((plane(x) - plane(-x), torch.as_tensor([point @ point - 1.0]))).numpy()

    found = [fsolve(gap, normal(3, seed=seed).numpy(), full_output=True) for seed in range(10)]
    assert min(abs(gap(point)).max() for point, *_ in found) < 1e-9
    flat = adapter(MLPAdapter, 3, 3, 16, seed=2)  # with as many dimensions it need not happen
    sphere = normal(4000, 3, seed=9)
    sphere /= sphere.norm(dim=1, keepdim=True)
    assert (flat(sphere) - flat(-sphere)).norm(dim=1).min() > 0.05


def test_an_inverse_magnifies_errors_by_the_smallest_singular_value():
    square, x = adapter(LinearAdapter, 5, 5), normal(5, seed=10)
    square.map.weight.data = orthogonal(5, 1) @ torch.diag(torch.logspace(0, -4, 5).double()) @ orthogonal(5, 2)
    left = torch.linalg.svd(square.map.weight).U
    for direction, factor in ((left[:, -1], 1e4), (left[:, 0], 1.0)):
        error = (square.inverse(square(x) + 1e-6 * direction) - x).norm().item()
        assert error == pytest.approx(1e-6 * factor, rel=1e-4)
    rigid = adapter(OrthogonalAdapter, 5, 5)
    error = (rigid.inverse(rigid(x) + 1e-6 * left[:, -1]) - x).norm().item()
    assert error == pytest.approx(1e-6, rel=1e-4)
