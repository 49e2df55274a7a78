"""Choices from text, limits of steps, and what is refused."""

import pytest

from benchmarks.runner.recipe import Recipe
from benchmarks.tasks.task import Rows


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("shared_dim", "64", 64),
        ("epsilon", "0.1", 0.1),
        ("context_tokens", "11", 11),
        ("context_tokens", "pooled", "pooled"),
        ("max_images", "none", None),
        ("negative_statements", "true", True),
        ("adapter_type", "linear", "linear"),
    ],
)
def test_parse(name, text, value):
    parsed = Recipe.parse(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text"), [("sharde_dim", "64"), ("shared_dim", "wide"), ("negative_statements", "perhaps")]
)
def test_parse_refuses(name, text):
    with pytest.raises(ValueError, match=f"`{name}` is"):
        Recipe.parse(name, text)


@pytest.mark.parametrize(
    "change",
    [
        {"label_fraction": 0},
        {"unpaired_fraction": 2},
        {"epochs": 0},
        {"epsilon": -1},
        {"adapter_type": "foo"},
        {"fuser_type": "foo"},
        {"fuse_stage": "foo"},
    ],
)
def test_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Recipe(**change)


def test_steps_are_epochs_within_limits():
    recipe = Recipe(batch_size=100, min_steps=10, max_steps=50)
    assert [recipe.steps(rows, 2) for rows in (100, 2000, 9000)] == [10, 40, 50]


def test_rows_of_unequal_columns():
    with pytest.raises(ValueError, match=r"\[2, 1\] rows"):
        Rows([0, 1], [0])
