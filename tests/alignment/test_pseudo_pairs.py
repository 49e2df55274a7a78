import pytest
import torch

from otmerge_hf.alignment import Procrustes, pseudo_pairs


@pytest.fixture
def fitted(noisy_clouds):
    context, query = noisy_clouds
    return Procrustes().fit(context[:100], query[:100]), context[100:], query[100:]


@pytest.mark.parametrize(("method", "level"), [("mutual", 0.7), ("plan", 0.5)])
def test_most_guesses_are_right_and_the_surest_are_best(fitted, method, level):
    fit, context, query = fitted
    guessed, confidence = pseudo_pairs(fit, context, query, method=method, level=level, epsilon=0.02)
    right = (guessed[:, 0] == guessed[:, 1]).double()
    assert len(guessed) > 50
    assert right.mean() > 0.8
    assert (confidence.diff() <= 0).all()
    assert confidence.min() >= level


def test_mutual_neighbours_by_brute_force(fitted):
    fit, context, query = fitted
    x, y = (
        torch.nn.functional.normalize(side) for side in (fit.transform_context(context), fit.transform_query(query))
    )
    scores = x @ y.T
    expected = {
        (i, int(scores[i].argmax())) for i in range(len(x)) if int(scores[:, int(scores[i].argmax())].argmax()) == i
    }
    assert set(map(tuple, pseudo_pairs(fit, context, query).pairs.tolist())) == expected


def test_plan_confidence_is_the_share_of_mass(fitted):
    fit, context, query = fitted
    pairs, confidence = pseudo_pairs(fit, context[:50], query[:80], method="plan", level=0.01, epsilon=0.1)
    mass = torch.zeros(80).double().index_add_(0, pairs[:, 1], confidence.double())
    assert mass.max() <= 1.02  # a query row has 1/80 of the mass and cannot give more


def test_high_level_keeps_one_pair_per_point(fitted):
    fit, context, query = fitted
    pairs, _ = pseudo_pairs(fit, context, query, method="plan", level=0.51, epsilon=0.02)
    assert all(len(pairs[:, side].unique()) == len(pairs) for side in (0, 1))


def test_known_rows_are_left_out(fitted):
    fit, context, query = fitted
    known = torch.tensor([[0, 0], [5, 7]])
    pairs, _ = pseudo_pairs(fit, context, query, known=known)
    assert not set(pairs[:, 0].tolist()) & {0, 5}
    assert not set(pairs[:, 1].tolist()) & {0, 7}
    everything = torch.arange(500)[:, None].expand(-1, 2)
    assert pseudo_pairs(fit, context, query, known=everything).pairs.shape == (0, 2)


def test_bad_input(fitted):
    fit, context, query = fitted
    with pytest.raises(ValueError, match="method must be"):
        pseudo_pairs(fit, context, query, method="argmax")
    with pytest.raises(ValueError, match="is not fitted yet"):
        pseudo_pairs(Procrustes(), context, query)
