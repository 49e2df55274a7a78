import pytest
import torch

from otmerge_hf.alignment import (
    CCA,
    GaussianMonge,
    Procrustes,
    Ridge,
    SinkhornProcrustes,
    WassersteinProcrustes,
)
from otmerge_hf.alignment.choice import choose_and_refit, choose_fit


def sides(rows, seed=0, noise=0.7):
    """Two views of 6 common factors behind hidden mixings, with private dimensions that are louder."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.Generator().manual_seed(99)
    factors = torch.randn(rows, 6, generator=generator)
    views = []
    for width in (20, 12):
        loud = 3 * torch.randn(rows, width - 6, generator=generator)
        clean = torch.cat([factors + noise * torch.randn(rows, 6, generator=generator), loud], dim=1)
        views.append(clean @ torch.linalg.qr(torch.randn(width, width, generator=mixing))[0])
    return views[0], views[1], None


def test_the_best_candidate_scores_what_it_says_and_beats_the_rest():
    train, validation = sides(400), sides(100, seed=1)
    choice = choose_fit(train, validation)
    recalls = [candidate.recall for candidate in choice.candidates]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] > 2 * recalls[-1]
    assert choice.fit.score(*validation) == pytest.approx(recalls[0])
    assert repr(choice.fit) == choice.candidates[0].fit
    assert isinstance(choice.fit, CCA), "private dimensions are loud: whitening must win"


@pytest.mark.parametrize(
    ("kind", "direct"),
    [("procrustes", Procrustes(shared_dim=4)), ("cca", None), ("ridge", None)],
)
def test_equals_the_fit_made_directly(kind, direct):
    train, validation = sides(200), sides(50, seed=1)
    width = 12 if kind == "ridge" else 4
    choice = choose_fit(train, validation, kind=kind, shared_dim=width)
    expected = direct or type(choice.fit)(**choice.fit.get_params())
    expected.fit(*train)
    torch.testing.assert_close(choice.fit.context_map_.weight.abs(), expected.context_map_.weight.abs())
    assert choice.fit.shared_dim_ == width
    assert all(candidate.shared_dim == width for candidate in choice.candidates)
    # A narrow space cut out of a wide one scores what a fit of that width scores.
    assert expected.score(*validation) == pytest.approx(choice.candidates[0].recall)


@pytest.mark.parametrize("kind", ["procrustes", "cca", "ridge", "sinkhorn_procrustes"])
def test_a_refit_is_the_fit_of_all_rows(kind):
    (x, y, _), validation = sides(200), sides(50, seed=1)
    pairs = torch.arange(150)[:, None].expand(-1, 2)  # the rest are unpaired
    more = torch.cat([pairs, 200 + torch.arange(50)[:, None].expand(-1, 2)])
    rows = torch.cat([x, validation[0]]), torch.cat([y, validation[1]]), more
    asked = []
    choice, found = choose_and_refit((x, y, pairs), validation, lambda: asked.append(0) or rows, kind=kind)
    alone = choose_fit((x, y, pairs), validation, kind=kind)
    assert choice.candidates == alone.candidates
    torch.testing.assert_close(choice.fit.context_map_.weight, alone.fit.context_map_.weight)
    assert len(asked) == (kind == "sinkhorn_procrustes"), "closed forms read no row twice"
    expected = type(choice.fit)(**choice.fit.get_params()).fit(*rows)
    torch.testing.assert_close(found.context_map_.weight.abs(), expected.context_map_.weight.abs())
    torch.testing.assert_close(found.query_map_.bias.abs(), expected.query_map_.bias.abs(), rtol=1e-4, atol=1e-5)
    assert found.n_pairs_ == 200


def test_a_refit_keeps_the_precision_of_the_training_rows():
    x, y, _ = sides(100)
    choice, found = choose_and_refit((x.double(), y.double(), None), sides(50, seed=1), lambda: None, kind="cca")
    assert found.context_map_.weight.dtype == choice.fit.context_map_.weight.dtype == torch.float64


def test_pairs_out_of_order_and_several_texts_per_image():
    x, y, _ = sides(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(3))
    shuffled = y[order]  # row order[i] of y is row i here
    pairs = torch.stack([order, torch.arange(300)], dim=1)
    validation = sides(60, seed=1)
    aligned = choose_fit((x, y, None), validation, kind="cca").candidates[0]
    assert choose_fit((x, shuffled, pairs), validation, kind="cca").candidates[0].recall == aligned.recall


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "magic"}, "kind must be one of auto, procrustes, cca, ridge, sinkhorn_procrustes, .*; got 'magic'"),
        ({"shared_dim": 13}, "shared_dim must be between 1 and 12"),
        ({"kind": "cca", "shared_dim": 20}, "shared_dim must be between 1 and 12"),
        ({"kind": "ridge", "shared_dim": 7}, "a ridge's is the width of a side, 20 or 12"),
        ({"kind": "gaussian_monge"}, "gaussian_monge keeps one width for context, query and shared space; got 20, 12"),
        ({"kind": "sinkhorn_procrustes", "shared_dim": 13}, "shared_dim must be between 1 and 12"),
        ({"kind": "sinkhorn_procrustes"}, "every context row is paired"),
    ],
)
def test_choices_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        choose_fit(sides(50), sides(20, seed=1), **options)


def test_a_ridge_may_keep_the_wider_side():
    choice = choose_fit(sides(100), sides(40, seed=1), shared_dim=20)
    assert isinstance(choice.fit, Ridge)
    assert choice.fit.target == "context"


def with_unpaired(paired, unpaired):
    """Pairs first, then rows of each side that are other items, so that only the clouds' shape can help."""
    x, y, _ = sides(paired, noise=0.3)
    more = sides(2 * unpaired, seed=2, noise=0.3)
    pairs = torch.arange(paired)[:, None].expand(-1, 2)
    return torch.cat([x, more[0][:unpaired]]), torch.cat([y, more[1][unpaired:]]), pairs


@pytest.mark.parametrize(
    ("paired", "unpaired", "expected"),
    [
        (40, 0, {"Procrustes", "CCA", "Ridge"}),
        (40, 10, {"Procrustes", "CCA", "Ridge"}),
        (40, 60, {"Procrustes", "CCA", "Ridge", "SinkhornProcrustes", "WassersteinProcrustes"}),
        (300, 60, {"Procrustes", "CCA", "Ridge"}),  # so many pairs need no other rows, says the table
        (1000, 60, {"Procrustes", "CCA", "Ridge"}),
    ],
)
def test_auto_tries_what_the_table_says(paired, unpaired, expected):
    choice = choose_fit(with_unpaired(paired, unpaired), sides(40, seed=1))
    assert {candidate.fit.split("(")[0] for candidate in choice.candidates} == expected


@pytest.mark.parametrize(
    ("kind", "cls"),
    [("sinkhorn_procrustes", SinkhornProcrustes), ("wasserstein_procrustes", WassersteinProcrustes)],
)
@pytest.mark.parametrize("shared_dim", [None, 5])
def test_fits_of_unpaired_rows_equal_those_made_directly(kind, cls, shared_dim):
    train, validation = with_unpaired(40, 100), sides(50, seed=1)
    choice = choose_fit(train, validation, kind=kind, shared_dim=shared_dim)
    assert isinstance(choice.fit, cls)
    assert choice.fit.shared_dim_ == (shared_dim or 12)
    again = cls(**choice.fit.get_params()).fit(*train)
    torch.testing.assert_close(again.context_map_.weight, choice.fit.context_map_.weight)
    assert choice.fit.score(*validation) == pytest.approx(choice.candidates[0].recall)


def test_a_monge_map_between_two_sides_of_one_frame():
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    y = x * torch.arange(1.0, 7) + 0.1 * torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
    choice = choose_fit((x[:200], y[:200], None), (x[200:], y[200:], None), kind="gaussian_monge")
    assert isinstance(choice.fit, GaussianMonge)
    assert choice.candidates[0].recall > 0.8
