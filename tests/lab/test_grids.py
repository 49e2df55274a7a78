"""Which cells there are, and that a cell's key is its settings'."""

import pytest

from benchmarks.methods import METHODS
from benchmarks.runner.encoding import features_key
from benchmarks.runner.recipe import Recipe
from benchmarks.suites import get_suite
from benchmarks.suites.easy_vqa import grid, make_cell


def test_every_choice_changes_the_key():
    base = make_cell("merged", Recipe())
    changed = {"seed": 1, "epsilon": 0.1, "shared_dim": 32, "context_tokens": "pooled", "max_steps": 5}
    keys = {make_cell("merged", Recipe(**{name: value})).key for name, value in changed.items()}
    assert len({base.key, make_cell("paired", Recipe()).key, *keys}) == len(changed) + 2
    assert make_cell("merged", Recipe()).key == base.key


def test_features_are_shared_by_cells_that_differ_elsewhere():
    keys = {features_key(Recipe(seed=seed, shared_dim=dim)) for seed in (0, 1) for dim in (64, 256)}
    assert len(keys) == 1
    assert features_key(Recipe(image_size=128)) not in keys


def test_expensive_methods_come_last_and_seeds_are_whole():
    cells = grid(["joint", "merged", "no_alignment"], seeds=2, label_fractions=[0.01, 1.0])
    order = [(cell.choices["method"], cell.choices["recipe"]["seed"]) for cell in cells]
    assert order[:4] == [("merged", 0), ("no_alignment", 0)] * 2
    assert {method for method, _ in order[8:]} == {"joint"}
    assert len(cells) == 12


def test_sweeps_vary_one_axis_at_a_time_and_nothing_twice():
    cells = grid(["merged"], seeds=1, settings={"epochs": 1.0}, sweeps={"shared_dim": [128, 256], "epsilon": [0.05]})
    recipes = [Recipe(**cell.choices["recipe"]) for cell in cells]
    assert [(r.shared_dim, r.epsilon, r.epochs) for r in recipes] == [(128, 0.05, 1.0), (256, 0.05, 1.0)]


def test_all_methods_by_default():
    assert {cell.choices["method"] for cell in grid(seeds=1)} == set(METHODS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["nonsense"]}, "`method` is 'nonsense'"),
        ({"seeds": 0}, "`seeds` is 0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        grid(**options)


def test_unknown_suite():
    with pytest.raises(ValueError, match="`suite` is 'vqa'; expected one of easy-vqa"):
        get_suite("vqa")
