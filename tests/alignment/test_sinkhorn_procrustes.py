import pytest
import torch

from otmerge_hf.alignment import CCA, Procrustes, Ridge, SinkhornProcrustes
from otmerge_hf.alignment.base import unpaired_rows


def first_pairs(count):
    return torch.arange(count)[:, None].expand(-1, 2)


def best_pairs_only(context, query, pairs, test):
    fits = [Ridge(alpha) for alpha in (0.1, 1.0, 10.0)] + [Procrustes(), Procrustes(16), CCA(0.1), CCA(1.0)]
    return max(fit.fit(context, query, pairs).score(*test) for fit in fits)


def test_unpaired_points_refine_few_pairs(noisy_clouds):
    context, query = noisy_clouds
    pairs, test = first_pairs(20), (context[400:], query[400:])
    # The unpaired rows of the two sides are other items: nothing but the clouds' shape can help.
    left, right = torch.cat([context[:20], context[20:210]]), torch.cat([query[:20], query[210:400]])
    refined = SinkhornProcrustes(pair_weight=0.3).fit(left, right, pairs).score(*test)
    assert refined > 1.1 * best_pairs_only(left, right, pairs, test)


def test_order_of_unpaired_rows_does_not_matter(noisy_clouds):
    context, query = noisy_clouds
    pairs = first_pairs(30)
    fit = SinkhornProcrustes(iterations=5).fit(context, query, pairs)
    order = torch.cat([torch.arange(30), 30 + torch.randperm(570, generator=torch.Generator().manual_seed(0))])
    shuffled = SinkhornProcrustes(iterations=5).fit(context, query[order], pairs)
    products = [one.transform_context(context) @ one.transform_query(query).T for one in (fit, shuffled)]
    torch.testing.assert_close(*products, atol=1e-3, rtol=1e-3)


def test_all_weight_on_the_pairs_is_the_closed_form(noisy_clouds):
    context, query = noisy_clouds
    fit = SinkhornProcrustes(pair_weight=1.0, iterations=2).fit(context, query, first_pairs(60))
    plain = Procrustes(moments_from="all").fit(context, query, first_pairs(60))
    torch.testing.assert_close(
        fit.transform_context(context) @ fit.transform_query(query).T,
        plain.transform_context(context) @ plain.transform_query(query).T,
    )


def test_stays_orthogonal_and_says_how_far_it_moved(noisy_clouds):
    fit = SinkhornProcrustes(iterations=6).fit(*noisy_clouds, first_pairs(30))
    for weight in (fit.context_map_.weight, fit.query_map_.weight):
        torch.testing.assert_close(weight @ weight.T, torch.eye(fit.shared_dim_).double())
    assert len(fit.movement_) == fit.iterations_ <= 6
    assert fit.movement_[-1] < fit.movement_[0]


def test_batches_are_enough(noisy_clouds):
    context, query = noisy_clouds
    test = (context[400:], query[400:])
    fits = [
        SinkhornProcrustes(pair_weight=0.3, batch_size=size).fit(context[:400], query[:400], first_pairs(20))
        for size in (150, 2048)
    ]
    assert fits[0].score(*test) > 0.7 * fits[1].score(*test)


def test_other_closed_forms_as_base(noisy_clouds):
    fit = SinkhornProcrustes(base=CCA(3.0), iterations=3).fit(*noisy_clouds, first_pairs(60))
    assert fit.score(*noisy_clouds) > 60 / 600


def test_unpaired_rows():
    rows = unpaired_rows(torch.tensor([[0, 2], [0, 1]]), 3, 4)
    assert [side.tolist() for side in rows] == [[1, 2], [0, 3]]


@pytest.mark.parametrize(
    ("rows", "pairs", "message"),
    [
        (600, None, "needs pairs, and rows beyond them"),
        (30, first_pairs(30), "every context row is paired.*use Procrustes"),
        (600, first_pairs(1), "at least 2 distinct pairs, got 1"),
    ],
)
def test_bad_input(rows, pairs, message, noisy_clouds):
    with pytest.raises(ValueError, match=message):
        SinkhornProcrustes().fit(*(side[:rows] for side in noisy_clouds), pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pair_weight": 0.0}, "pair_weight must be above 0"),
        ({"epsilon": 0.0}, "epsilon must be"),
        ({"iterations": 0}, "iterations must be at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SinkhornProcrustes(**arguments)
