"""The matching stage: which pairs it makes, what learns in it, and where the answers start."""

import torch

from benchmarks.methods import matching
from benchmarks.methods.grown import aligned
from benchmarks.methods.hard_pairs import cosines_of, hold_contexts, true_and_false
from benchmarks.tasks.task import Rows


def directions(contexts, queries):
    generator = torch.Generator().manual_seed(0)
    made = {
        "context": torch.randn(contexts, 3, generator=generator),
        "query": torch.randn(queries, 3, generator=generator),
    }
    return {side: torch.nn.functional.normalize(rows, dim=1) for side, rows in made.items()}


def test_a_false_pair_is_a_caption_beside_the_nearest_other_photograph():
    pairs = Rows([0, 0, 1, 2, 2, 3], [0, 1, 2, 3, 4, 5])
    places = directions(4, 6)
    made = true_and_false(pairs, places, seed=0)
    assert made.columns["labels"] == [1] * 6 + [0] * 6
    assert made.columns["query_features"] == 2 * pairs.columns["query_features"]  # words alone say nothing
    for own, query, found in zip(
        pairs.columns["context_features"], range(6), made.columns["context_features"][6:], strict=True
    ):
        cosines = places["context"] @ places["query"][query]
        cosines[own] = -2
        assert found == cosines.argmax()  # of 32 draws all four photographs are drawn
    expected = (places["context"][made.columns["context_features"]] * places["query"][2 * list(range(6))]).sum(1)
    torch.testing.assert_close(cosines_of(made, places)[:, 0], expected)


def test_no_pair_is_taken_for_a_false_one():
    """The caption 0 is true of every photograph, 1 of the first alone."""
    made = true_and_false(Rows([0, 1, 2, 0], [0, 0, 0, 1]), directions(3, 2), seed=0)
    assert made.columns["labels"] == [1, 1, 1, 1, 0]
    assert (made.columns["context_features"][-1] in (1, 2), made.columns["query_features"][-1]) == (True, 1)


def test_held_photographs_are_apart():
    pairs = Rows([i // 5 for i in range(150)], range(150))
    training, held = hold_contexts(pairs, seed=0)
    assert (len(training), len(held)) == (140, 10)
    assert not set(training.columns["context_features"]) & set(held.columns["context_features"])
    assert sorted(training.columns["query_features"] + held.columns["query_features"]) == list(range(150))
    assert hold_contexts(pairs, seed=1)[1].columns != held.columns


def test_the_fuser_alone_learns_and_the_answers_start_from_it(task, recipe, monkeypatch):
    matchers, started = [], []
    learn = matching.learn_matching

    def watch(*given):
        matchers.append(learn(*given))
        return matchers[-1]

    def grow(task, recipe, fitted):
        started.append((fitted.model, recipe.learning_rate))
        return fitted

    monkeypatch.setattr(matching, "learn_matching", watch)
    monkeypatch.setattr(matching, "grow", grow)
    fitted = matching.matched(task, recipe)
    (matcher, said), (model, rate) = matchers[0], started[0]
    assert fitted.notes["matching"] == said
    assert 0 <= said["accuracy"] <= 1
    assert 0 < rate < recipe.learning_rate
    before = aligned(task, recipe, linear_path=[]).model.otmerge.state_dict()
    for host in (matcher, model):
        assert all(torch.equal(value, before[name]) for name, value in host.otmerge.state_dict().items())
    untrained = task.build(recipe).fuser.state_dict()
    for name, value in model.fuser.state_dict().items():
        assert torch.equal(value, matcher.fuser.state_dict()[name])
    assert any(not torch.equal(value, untrained[name]) for name, value in model.fuser.state_dict().items())
    assert matcher.linear_path.maps["cosine"].weight.abs().sum() > 0
