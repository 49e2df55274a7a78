"""Intervals against SciPy."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.report.intervals import estimate, paired_difference, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 40])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.995])
def test_quantile(freedom, share):
    assert t_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-6)


def test_interval():
    values = [0.91, 0.93, 0.90, 0.95]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.error == pytest.approx(stats.sem(values))
    assert found.count == 4


def test_one_seed_has_no_interval():
    found = estimate([0.9])
    assert (found.mean, found.error, found.low, found.high) == (0.9, None, None, None)
    with pytest.raises(ValueError, match="empty"):
        estimate([])


def test_paired_difference_uses_shared_seeds_only():
    found = paired_difference({0: 0.9, 1: 0.8, 2: 0.99}, {0: 0.8, 1: 0.75})
    assert found.mean == pytest.approx(0.075)
    reference = stats.ttest_rel([0.9, 0.8], [0.8, 0.75]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
