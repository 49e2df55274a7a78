import numpy as np
import pytest
import scipy.spatial
import torch
from sklearn.neighbors import NearestNeighbors

from otmerge_hf.metrics import linear_cka, mutual_knn, procrustes_error
from otmerge_hf.metrics.similarity import neighbour_sets


@pytest.fixture
def clouds():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(60, 7, generator=generator, dtype=torch.float64)
    return x, x[:, :5] + 0.5 * torch.randn(60, 5, generator=generator, dtype=torch.float64)


def random_rotation(dim):
    return torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)).double())[0]


def test_cka_is_the_cosine_of_centred_gram_matrices(clouds):
    grams = [(side - side.mean(0)) @ (side - side.mean(0)).T for side in clouds]
    expected = (grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm())
    assert linear_cka(*clouds) == pytest.approx(float(expected))


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_ignores_rotation_scale_and_shift(clouds, debiased):
    x, _ = clouds
    assert linear_cka(x, 3 * x @ random_rotation(7) + 2, debiased=debiased) == pytest.approx(1.0)


def test_both_forms_of_cka_agree(clouds):
    wide = [side @ torch.randn(side.shape[1], 80).double() for side in clouds]  # wider than the 60 rows
    narrow = [torch.linalg.qr(side.T)[1].T for side in wide]  # the same Gram matrices
    assert linear_cka(*wide) == pytest.approx(linear_cka(*narrow))


def test_debiased_cka_of_unrelated_wide_features_is_near_zero():
    x, y = (torch.randn(50, 400, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    assert linear_cka(x, y) > 0.8  # the reason why the debiased form exists
    assert abs(linear_cka(x, y, debiased=True)) < 0.05


def test_debiased_hsic_is_unbiased_over_permutations(clouds):
    # The mean over all relabelings of the unbiased HSIC is exactly 0; check on 5 points, 120 relabelings.
    from itertools import permutations

    x, y = (side[:5] for side in clouds)
    values = [linear_cka(x, y[list(order)], debiased=True) for order in permutations(range(5))]
    assert np.mean(values) == pytest.approx(0.0, abs=1e-12)


def test_mutual_knn_against_sklearn(clouds):
    sets = []
    for side in clouds:
        found = NearestNeighbors(n_neighbors=6, metric="cosine").fit(side).kneighbors(return_distance=False)
        sets.append([set(row) for row in found])
    expected = np.mean([len(a & b) / 6 for a, b in zip(*sets, strict=True)])
    assert mutual_knn(*clouds, k=6) == pytest.approx(expected)


def test_duplicates_do_not_make_a_row_its_own_neighbour():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    sets = neighbour_sets(x, 2)
    assert all(row not in sets[row].tolist() for row in range(4))
    assert all(len(set(sets[row].tolist())) == 2 for row in range(4))


def test_procrustes_error_against_scipy(clouds):
    x, y = clouds
    padded = torch.cat([y, torch.zeros(60, 2).double()], dim=1)
    _, _, disparity = scipy.spatial.procrustes(x.numpy(), padded.numpy())
    assert procrustes_error(x, y) == pytest.approx(disparity)
    assert procrustes_error(x, x @ random_rotation(7) * 4 - 1) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("metric", [linear_cka, procrustes_error])
def test_constant_side_is_refused(metric):
    with pytest.raises(ValueError, match="y does not vary"):
        metric(torch.randn(5, 2), torch.ones(5, 3))


def test_rows_must_match():
    with pytest.raises(ValueError, match="got 3 and 4 rows"):
        mutual_knn(torch.randn(3, 2), torch.randn(4, 2), k=1)
    with pytest.raises(ValueError, match="k must be between 1 and rows - 1 = 2"):
        mutual_knn(torch.randn(3, 2), torch.randn(3, 2), k=3)
    with pytest.raises(ValueError, match="at least 4 rows"):
        linear_cka(torch.randn(3, 2), torch.randn(3, 2), debiased=True)
