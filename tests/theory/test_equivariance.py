"""Section 4 of docs/theory.md: what a fitted map inherits from a group that acts on the inputs."""

import pytest
import torch

from otmerge_hf.alignment import GaussianMonge, Procrustes, Ridge
from otmerge_hf.encoders import convert_efficientnet_lite
from otmerge_hf.transport import sinkhorn

from .draws import normal, orthogonal


ORDER = 4  # of the cyclic group that the tests let act


def representation(copies, seed):
    """`copies` regular representations of the cyclic group in a hidden orthonormal basis: a matrix an element."""
    shift = torch.eye(ORDER, dtype=torch.float64).roll(1, 0)
    basis = orthogonal(ORDER * copies, seed)
    turn = basis @ torch.block_diag(*[shift] * copies) @ basis.T
    return torch.stack([torch.linalg.matrix_power(turn, k) for k in range(ORDER)])


def orbits(points, group):
    """Every point (N, D) moved by every element: (N, order, D)."""
    return torch.einsum("gij,nj->ngi", group, points)


def defect(weight, first, second):
    """Largest relative difference between "act, then map" and "map, then act"."""
    return ((weight @ first - second @ weight).flatten(1).norm(dim=1) / weight.norm()).max().item()


@pytest.mark.parametrize("fit", [Procrustes(), Ridge(alpha=0.3)])
def test_paired_fits_on_a_closed_set_commute_with_the_group(fit):
    first, second = representation(2, seed=1), representation(2, seed=2)
    x, y = orbits(normal(12, 8, seed=3), first), orbits(normal(12, 8, seed=4), second)

    def weight(x, y):
        maps = fit.fit(x.reshape(-1, 8), y.reshape(-1, 8))
        return maps.query_map_.weight.T @ maps.context_map_.weight

    assert defect(weight(x, y), first, second) < 1e-10
    assert defect(weight(x[:, :3], y[:, :3]), first, second) > 0.05  # one element left out: the set is not closed


def test_commuting_maps_have_fewer_free_numbers():
    first, second = representation(2, seed=1), representation(3, seed=2)
    cells = torch.eye(8 * 12, dtype=torch.float64).reshape(-1, 12, 8)
    equations = torch.cat([(cells @ a - b @ cells).flatten(1) for a, b in zip(first, second, strict=True)], dim=1)
    free = len(cells) - torch.linalg.matrix_rank(equations).item()
    characters = torch.einsum("gii->g", first) @ torch.einsum("gii->g", second) / ORDER
    assert free == round(characters.item()) == 8 * 12 // ORDER


def test_transport_between_closed_sets_commutes_with_the_group():
    group = representation(2, seed=5)
    x, y = orbits(normal(8, 8, seed=6) + 0.3, group), orbits(0.5 * normal(9, 8, seed=7) - 0.2, group)

    def barycentric_defect(y):
        y = y.reshape(-1, 8)
        plan = sinkhorn(x.reshape(-1, 8), y, epsilon=0.1, tol=1e-10, max_iterations=20_000)
        mapped = plan.barycentric_projection(y).reshape(-1, ORDER, 8)
        moved = orbits(mapped[:, 0], group)
        return ((mapped - moved).norm() / mapped.norm()).item()

    assert barycentric_defect(y) < 1e-7
    assert barycentric_defect(y[:, :3]) > 0.02
    monge = GaussianMonge(0.1).fit(x.reshape(-1, 8), y.reshape(-1, 8)).context_map_.weight
    assert defect(monge, group, group) < 1e-10
    monge = GaussianMonge(0.1).fit(x.reshape(-1, 8), y[:, :3].reshape(-1, 8)).context_map_.weight
    assert defect(monge, group, group) > 0.02


@pytest.fixture(scope="module")
def flipped():
    """EfficientNet-Lite0's mean features of 24 images and of their mirror images, and something to say of each."""
    for package in ("easy_vqa", "efficientnet_lite_pytorch"):
        pytest.importorskip(package)
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    from otmerge_hf.data import image_paths

    folder = convert_efficientnet_lite(image_size=64)
    images = [Image.open(path).convert("RGB") for path in image_paths("test")[:24]]
    pixels = AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")["pixel_values"]
    encoder = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        plain, mirrored = (encoder(p).last_hidden_state.mean((2, 3)).double() for p in (pixels, pixels.flip(-1)))
    return plain, mirrored, normal(24, 16, seed=8)


def test_both_views_of_an_image_make_any_encoder_equivariant(flipped):
    plain, mirrored, said = flipped
    change = ((plain - mirrored).norm(dim=1).mean() / torch.pdist(plain).mean()).item()
    assert change == pytest.approx(0.29, abs=0.02)  # the encoder alone is neither invariant nor far from it
    views = torch.cat((plain, mirrored), 1), torch.cat((mirrored, plain), 1)  # a mirror swaps the halves, exactly
    weight = Ridge().fit(torch.cat(views), said.repeat(2, 1)).context_map_.weight
    first, second = weight.chunk(2, dim=1)
    assert (first - second).norm() < 1e-10 * weight.norm()  # it cannot tell left from right
    weight = Ridge().fit(views[0], said).context_map_.weight
    first, second = weight.chunk(2, dim=1)
    assert (first - second).norm() > 0.2 * weight.norm()


def test_mirrored_training_images_are_a_penalty_on_what_mirroring_changes(flipped):
    plain, mirrored, said = flipped
    even, odd = (plain + mirrored) / 2, (plain - mirrored) / 2
    alpha = 50.0
    options = {"alpha": alpha / 48, "alpha_scale": "absolute"}
    augmented = Ridge(**{**options, "alpha": alpha}).fit(torch.cat((plain, mirrored)), said.repeat(2, 1))
    centred = even - even.mean(0)
    normal_matrix = centred.T @ centred + odd.T @ odd + alpha / 2 * torch.eye(even.shape[1], dtype=torch.float64)
    expected = torch.linalg.solve(normal_matrix, centred.T @ (said - said.mean(0))).T
    torch.testing.assert_close(augmented.context_map_.weight, expected)
    without = Ridge(alpha=alpha / 2, alpha_scale="absolute").fit(plain, said).context_map_.weight
    assert (odd @ expected.T).norm() < 0.5 * (odd @ without.T).norm()
