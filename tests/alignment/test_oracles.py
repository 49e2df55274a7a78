"""Each closed form against an independent implementation, in float64."""

import numpy as np
import ot
import pytest
import scipy.linalg
import sklearn.linear_model
import torch
from sklearn.cross_decomposition import CCA as SklearnCCA

from otmerge_hf.alignment import CCA, GaussianMonge, Procrustes, Ridge
from otmerge_hf.alignment.moments import Moments


@pytest.mark.parametrize("target", ["query", "context"])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_ridge_is_sklearn_s(target, alpha, wide_and_narrow):
    context, query = wide_and_narrow
    fit = Ridge(alpha, target=target, alpha_scale="absolute").fit(context, query)
    source, goal = (context, query) if target == "query" else (query, context)
    expected = sklearn.linear_model.Ridge(alpha=alpha).fit(source, goal)
    mapped = fit.transform_context(context) if target == "query" else fit.transform_query(query)
    np.testing.assert_allclose(mapped + goal.mean(0), expected.predict(source), atol=1e-9)


def test_relative_alpha_is_sklearn_s_times_variance_and_pairs(wide_and_narrow):
    context, query = wide_and_narrow
    absolute = 0.3 * float(context.var(0, correction=0).mean()) * len(context)
    relative = Ridge(0.3).fit(context, query)
    same = Ridge(absolute, alpha_scale="absolute").fit(context, query)
    torch.testing.assert_close(relative.context_map_.weight, same.context_map_.weight)


def test_procrustes_is_scipy_s(clouds):
    context, query = (side - side.mean(0) for side in clouds)
    expected, _ = scipy.linalg.orthogonal_procrustes(context.numpy(), query.numpy())
    fit = Procrustes().fit(context, query)
    np.testing.assert_allclose(fit.rotation_, expected, atol=1e-9)
    there = fit.query_map_.weight.T @ fit.context_map_.weight
    np.testing.assert_allclose(there.T, expected, atol=1e-9)


@pytest.mark.parametrize("shared_dim", [None, 5])
def test_procrustes_rows_are_orthonormal(shared_dim, wide_and_narrow):
    fit = Procrustes(shared_dim).fit(*wide_and_narrow)
    for weight in (fit.context_map_.weight, fit.query_map_.weight):
        torch.testing.assert_close(weight @ weight.T, torch.eye(fit.shared_dim_).double())


def test_procrustes_beats_random_orthogonal_maps(wide_and_narrow):
    context, query = (side - side.mean(0) for side in wide_and_narrow)
    fit = Procrustes(4).fit(context, query)
    best = (fit.transform_context(context) * fit.transform_query(query)).sum()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        frames = [
            torch.linalg.qr(torch.randn(side.shape[1], 4, generator=generator).double())[0]
            for side in (context, query)
        ]
        assert ((context @ frames[0]) * (query @ frames[1])).sum() < best


def test_cca_is_sklearn_s():
    # Correlations far apart, so that scikit-learn's power iterations converge and the order is sure.
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(400, 4, generator=generator, dtype=torch.float64)
    noise = torch.tensor([0.1, 0.6, 1.2, 3.0]).double()
    views = [latent + noise * torch.randn(400, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    context = torch.cat([views[0], torch.randn(400, 2, generator=generator).double()], dim=1)
    context = context @ torch.randn(6, 6, generator=generator).double()
    query = views[1] @ torch.randn(4, 4, generator=generator).double()
    fit = CCA(regularization=0.0, shared_dim=3, correlation_weight=0.0).fit(context, query)
    oracle = SklearnCCA(n_components=3, max_iter=5000, tol=1e-10).fit(context, query)
    left, right = oracle.transform(context, query)
    ours = (fit.transform_context(context).numpy(), fit.transform_query(query).numpy())
    for component in range(3):
        expected = np.corrcoef(left[:, component], right[:, component])[0, 1]
        assert fit.correlations_[component].item() == pytest.approx(expected, abs=1e-5)
        assert np.corrcoef(ours[0][:, component], ours[1][:, component])[0, 1] == pytest.approx(
            fit.correlations_[component].item()
        )
        assert abs(np.corrcoef(ours[0][:, component], left[:, component])[0, 1]) > 1 - 1e-5


def test_unregularised_cca_whitens(wide_and_narrow):
    fit = CCA(0.0, correlation_weight=0.0).fit(*wide_and_narrow)
    for mapped in (fit.transform_context(wide_and_narrow[0]), fit.transform_query(wide_and_narrow[1])):
        torch.testing.assert_close(mapped.T @ mapped / len(mapped), torch.eye(18).double())


def test_heavily_regularised_cca_is_procrustes(clouds):
    context, query = clouds
    cca = CCA(1e8, correlation_weight=0.0).fit(context, query)
    products = cca.transform_context(context) @ cca.transform_query(query).T
    procrustes = Procrustes().fit(context, query)
    expected = procrustes.transform_context(context) @ procrustes.transform_query(query).T
    torch.testing.assert_close(products / products.norm(), expected / expected.norm(), atol=1e-6, rtol=0)


def test_gaussian_monge_is_pot_s(clouds):
    context, query = clouds
    query = query[:250] + 0.3  # unpaired: other rows, another centre
    fit = GaussianMonge(0.0).fit(context, query)
    means = [side.mean(0).numpy() for side in (context, query)]
    covariances = [np.cov(side.T.numpy(), bias=True) for side in (context, query)]
    matrix, shift = ot.gaussian.bures_wasserstein_mapping(*means, *covariances)
    np.testing.assert_allclose(fit.context_map_.weight, matrix, atol=1e-8)
    mapped = fit.transform_context(context) + query.mean(0)  # our shared space is centred on the query
    np.testing.assert_allclose(mapped, context.numpy() @ matrix + shift, atol=1e-7)


def test_gaussian_monge_matches_the_second_moments(clouds):
    context, query = clouds
    fit = GaussianMonge(0.0).fit(context, query)
    mapped = fit.transform_context(context)
    torch.testing.assert_close(torch.cov(mapped.T), torch.cov(query.T))
    rebuilt = (fit.eigenvectors_ * fit.eigenvalues_) @ fit.eigenvectors_.T
    assert (fit.eigenvalues_ > 0).all()
    torch.testing.assert_close(rebuilt, fit.context_map_.weight)


def test_gaussian_monge_works_in_one_frame_and_not_across_a_rotation(clouds):
    context, query = clouds
    stretched = context * torch.linspace(0.2, 3, 24) + 0.05 * torch.randn(300, 24)
    assert GaussianMonge().fit(context, stretched).score(context, stretched) > 0.8
    assert GaussianMonge().fit(context, query).score(context, query) < 0.05


def test_gaussian_monge_refusals(wide_and_narrow):
    context, query = wide_and_narrow
    with pytest.raises(ValueError, match=r"one frame: context has 30 features and query 18.*Procrustes"):
        GaussianMonge().fit(context, query)
    with pytest.raises(ValueError, match=r"context has a singular covariance \(10 rows, 30 features\)"):
        GaussianMonge(0.0).fit(context[:10], context)


def test_unregularised_fits_want_more_pairs_than_dimensions(wide_and_narrow):
    context, query = wide_and_narrow
    few = torch.arange(20)[:, None].expand(-1, 2)
    with pytest.raises(ValueError, match="CCA needs at least 31 distinct pairs, got 20"):
        CCA(0.0).fit(context, query, few)
    with pytest.raises(ValueError, match="Ridge needs at least 31 distinct pairs, got 20"):
        Ridge(0.0).fit(context, query, few)
    with pytest.raises(ValueError, match="linearly dependent: use alpha > 0"):
        Ridge(0.0).fit(torch.cat([context, context], dim=1), query)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(-1.0), "alpha must be a finite number"),
        (lambda: Ridge(target="image"), "target must be"),
        (lambda: Ridge(alpha_scale="max"), "alpha_scale must be"),
        (lambda: CCA(float("nan")), "regularization must be"),
        (lambda: CCA(correlation_weight=-1), "correlation_weight must be"),
        (lambda: GaussianMonge(-1), "regularization must be"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("fit", [Procrustes, CCA])
@pytest.mark.parametrize("shared_dim", [0, 19])
def test_shared_dim_out_of_range(fit, shared_dim, wide_and_narrow):
    with pytest.raises(ValueError, match="shared_dim must be between 1 and 18"):
        fit(shared_dim=shared_dim).fit(*wide_and_narrow)


def test_statistics_over_all_rows_whiten_all_rows(wide_and_narrow):
    context, query = wide_and_narrow
    few = torch.arange(40)[:, None].expand(-1, 2)
    fit = CCA(0.0, correlation_weight=0.0, moments_from="all").fit(context, query, few)
    mapped = fit.transform_context(context)
    torch.testing.assert_close(mapped.mean(0), torch.zeros(18).double())
    torch.testing.assert_close(torch.cov(mapped.T, correction=0), torch.eye(18).double())
    assert fit.n_pairs_ == 40


@pytest.mark.parametrize("rows", [3, 9, 30])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_few_rows_whiten_as_the_whole_matrix_does(rows, ridge):
    """By the smaller matrix that few rows allow; two of the rows are twins, so the rank is less than told."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 40, generator=generator, dtype=torch.float64) * torch.logspace(0, -4, 40).double()
    x[-1] = x[0]
    covariance = torch.cov(x.T, correction=0)
    whole = covariance + ridge * covariance.diagonal().mean() * torch.eye(40, dtype=torch.float64)
    moments = Moments((x.mean(0), x.mean(0)), (covariance, covariance), covariance, rows)
    found = moments.whitening(0, ridge, rank=rows)
    torch.testing.assert_close(found @ whole @ found, torch.eye(40, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(found, moments.whitening(1, ridge), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [0, 1])
def test_cca_of_a_side_that_does_not_vary_and_few_pairs(side):
    """Nothing agrees with a constant; fewer pairs than dimensions take another way through the covariance."""
    sides = [torch.randn(6, 16, generator=torch.Generator().manual_seed(0)), torch.full((6, 16), 3.0)]
    fit = CCA(0.3).fit(sides[side], sides[1 - side])
    assert fit.correlations_.tolist() == [0.0] * 16
    assert fit.context_map_.weight.isfinite().all()
    assert fit.query_map_.weight.isfinite().all()
