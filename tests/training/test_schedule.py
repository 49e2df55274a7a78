import math

import pytest

from otmerge_hf.training import PairedLossCallback, SinkhornLossCallback, value_at


def test_a_number_is_constant():
    assert value_at(0.3, 0.0) == value_at(0.3, 1.0) == 0.3


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 2.0), (0.1, 2.0), (0.3, 1.5), (0.5, 1.0), (0.75, 0.5), (1.0, 0.0)]
)
def test_points_are_joined_by_lines(progress, value):
    assert value_at([(0.1, 2.0), (0.5, 1.0), (1.0, 0.0)], progress) == pytest.approx(value)


def test_a_jump_takes_the_later_value():
    assert value_at([(0.0, 0.0), (0.5, 0.0), (0.5, 1.0)], 0.5) == 1.0


def test_geometric_halves_the_logarithm():
    assert value_at([(0.0, 1.0), (1.0, 0.01)], 0.5, geometric=True) == pytest.approx(0.1)


NO_SCHEDULES = ([], None, "0.5", math.nan, -math.inf, [(0, math.nan)], [(math.nan, 1)], [0.1, 0.2])


@pytest.mark.parametrize(
    ("points", "geometric", "message"),
    [
        *((bad, False, "`schedule` is .*; expected a finite number, or points") for bad in NO_SCHEDULES),
        (0, True, "positive"),
        ([(0.5, 1), (0.1, 1)], False, "rising"),
        ([(0, 1), (1, 0)], True, "positive"),
    ],
)
def test_refusals(points, geometric, message):
    with pytest.raises(ValueError, match=message):
        value_at(points, 0.5, geometric)


def test_a_wrong_schedule_is_refused_at_once():
    with pytest.raises(ValueError, match="rising"):
        SinkhornLossCallback([(1.0, 1.0), (0.0, 0.0)])
    with pytest.raises(ValueError, match="positive"):
        SinkhornLossCallback(epsilon=[(0.0, 1.0), (1.0, 0.0)])


def test_a_weight_that_is_no_number_is_refused_by_name():
    """It made every parameter NaN, while the log said 0."""
    with pytest.raises(ValueError, match="`weight` is nan; expected a finite number"):
        PairedLossCallback(math.nan)
    with pytest.raises(ValueError, match="`epsilon` is nan; expected a finite number"):
        SinkhornLossCallback(epsilon=math.nan)
