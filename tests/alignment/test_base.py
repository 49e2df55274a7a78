import pytest
import torch

from otmerge_hf.alignment import CCA, AffineMap, GaussianMonge, Procrustes, Ridge
from otmerge_hf.model.adapters import LinearAdapter


PAIRED = [Ridge(), Ridge(target="context"), Procrustes(), CCA()]
names = pytest.mark.parametrize("fit", PAIRED, ids=repr)


def copy(fit):
    return type(fit)(**fit.get_params())


@names
def test_transform_is_the_affine_map(fit, wide_and_narrow):
    context, query = (side.float() for side in wide_and_narrow)
    fit = copy(fit).fit(context, query)
    for side, affine, transform in (
        (context, fit.context_map_, fit.transform_context),
        (query, fit.query_map_, fit.transform_query),
    ):
        assert affine.weight.shape == (fit.shared_dim_, side.shape[1])
        assert affine.bias.shape == (fit.shared_dim_,)
        assert affine.weight.dtype == torch.float32
        assert torch.equal(transform(side), side @ affine.weight.T + affine.bias)


@names
def test_fit_leaves_the_features_alone(fit, clouds):
    before = [side.clone() for side in clouds]
    copy(fit).fit(*clouds)
    assert all(torch.equal(a, b) for a, b in zip(before, clouds, strict=True))


@names
def test_loads_into_a_linear_layer(fit, wide_and_narrow):
    context, query = wide_and_narrow
    fit = copy(fit).fit(context, query)
    layer = torch.nn.Linear(context.shape[1], fit.shared_dim_).double()
    layer.load_state_dict(fit.context_map_._asdict())
    torch.testing.assert_close(layer(context), fit.transform_context(context))


@names
def test_pairs_choose_rows(fit, clouds):
    context, query = clouds
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    pairs = torch.stack([torch.arange(300), torch.argsort(order)], dim=1)[:200]
    shuffled = copy(fit).fit(context, query[order], pairs)
    direct = copy(fit).fit(context[:200], query[:200])
    assert shuffled.n_pairs_ == 200
    probe = (shuffled.transform_context(context), direct.transform_context(context))
    # Signs of singular vectors are free: compare what the map is for, the inner products between sides.
    torch.testing.assert_close(
        probe[0] @ shuffled.transform_query(query).T, probe[1] @ direct.transform_query(query).T
    )


@names
def test_hidden_rotation_leaves_no_leak(fit, clouds):
    context, query = clouds
    chance = 1 / 100
    held_out = torch.arange(200, 300)
    # Equal axes carry nothing: the identity is at chance, so a good score can only come from the pairs.
    scores = torch.nn.functional.normalize(context[200:]) @ torch.nn.functional.normalize(query[200:]).T
    assert (scores.argmax(1) == torch.arange(100)).double().mean() < 5 * chance
    fitted = copy(fit).fit(context[:200], query[:200])
    assert fitted.score(context[held_out], query[held_out]) > 0.8
    wrong = copy(fit).fit(context[:200], query[:200].roll(1, dims=0))
    assert wrong.score(context[held_out], query[held_out]) < 10 * chance


@names
def test_invariant_to_scale_and_shift(fit, clouds):
    context, query = clouds
    first = copy(fit).fit(context[:200], query[:200]).score(context[200:], query[200:])
    moved = [1000 * context + 5, query / 1000 - 3]
    second = copy(fit).fit(moved[0][:200], moved[1][:200]).score(moved[0][200:], moved[1][200:])
    assert first == pytest.approx(second, abs=0.011)


@names
def test_fewer_pairs_than_dimensions_still_fit(fit, clouds):
    context, query = clouds
    score = copy(fit).fit(context, query, torch.arange(10)[:, None].expand(-1, 2)).score(context, query)
    assert score > 10 / 300


@names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features(fit, clouds, dtype):
    context, query = (side.to(dtype) for side in clouds)
    fitted = copy(fit).fit(context, query)
    assert fitted.context_map_.weight.dtype == torch.float32
    assert fitted.transform_context(context).dtype == torch.float32


@names
def test_chunks_do_not_change_the_fit(fit, clouds, monkeypatch):
    context, query = clouds
    whole = copy(fit).fit(context, query).transform_context(context)
    monkeypatch.setattr("otmerge_hf.alignment.moments.CHUNK_ROWS", 7)
    parts = copy(fit).fit(context, query).transform_context(context)
    torch.testing.assert_close(whole @ whole.T, parts @ parts.T)


def nan_in_row_one(x):
    x = x.clone()
    x[1, 0] = float("nan")
    return x


@names
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (nan_in_row_one(x), y, None), "context has NaN or infinity, first in row 1"),
        (lambda x, y: (x, nan_in_row_one(y), None), "query has NaN or infinity, first in row 1"),
        (lambda x, y: (x[:0], y, None), "context is empty"),
        (lambda x, y: (x[0], y, None), r"context must be \(rows, features\)"),
        (lambda x, y: (x.long(), y, None), "context must hold floating-point features"),
        (lambda x, y: (x, y[:-1], None), "pairs is None.*context has 300 rows and query 299"),
        (lambda x, y: (x, y, [[0, 300], [1, 1]]), "pairs names query row 300"),
        (lambda x, y: (x, y, [[0, 0], [0, 0]]), "needs at least 2 distinct pairs, got 1"),
        (lambda x, y: (x, y, [0, 1]), r"pairs must be \(P, 2\)"),
    ],
)
def test_bad_input_is_named(fit, change, message, clouds):
    with pytest.raises(ValueError, match=message):
        copy(fit).fit(*change(*clouds))


@names
def test_transform_before_fit_and_wrong_width(fit, clouds):
    with pytest.raises(ValueError, match="is not fitted yet"):
        copy(fit).transform_query(clouds[1])
    fitted = copy(fit).fit(*clouds)
    with pytest.raises(ValueError, match=r"context features must be \(\.\.\., 24\)"):
        fitted.transform_context(torch.randn(3, 23))


def test_repr_shows_the_arguments():
    assert repr(Procrustes(shared_dim=8)) == "Procrustes(shared_dim=8, moments_from='pairs')"
    assert GaussianMonge(0.5).get_params() == {"regularization": 0.5}


def test_unknown_moments_from(clouds):
    with pytest.raises(ValueError, match="moments_from must be"):
        CCA(moments_from="rows").fit(*clouds)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_completed_map_keeps_cosines_and_has_an_inverse(dtype):
    """Also where the map itself is singular: its last row repeats the first."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 12, dtype=dtype, generator=draw)
    weight[4] = weight[0]
    narrow = AffineMap(weight, torch.randn(5, dtype=dtype, generator=draw))
    with pytest.raises(ValueError, match="width must be at least 13: 5, and 8 lost; got 12"):
        narrow.completed(12)
    whole = narrow.completed(16)
    x, y = (torch.randn(50, 12, dtype=dtype, generator=draw) for _ in range(2))
    assert torch.allclose(whole(x)[:, :5], narrow(x), atol=1e-5)
    of_narrow, of_whole, of_even = (
        torch.cosine_similarity(affine(x), affine(y)) for affine in (narrow, whole, narrow.completed(16, scale=1.0))
    )
    assert (of_whole - of_narrow).abs().mean() < 1e-3 < 1e-1 < (of_even - of_narrow).abs().mean()
    adapter = LinearAdapter(12, 16).to(dtype)
    adapter.load_affine(*whole)
    assert adapter.invertibility == "left-inverse"
    with torch.no_grad():
        error = (adapter.inverse(adapter(x)) - x).norm() / x.norm()
    assert error < {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]


def test_completed_with_full_weight_and_refusals():
    """Lost directions at the size of the kept ones: a square matrix with equal singular values."""
    narrow = AffineMap(3 * torch.eye(2, 5), torch.zeros(2))
    assert torch.linalg.svdvals(narrow.completed(5, scale=1.0).weight).tolist() == pytest.approx([3.0] * 5)
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        narrow.completed(5, scale=0)
