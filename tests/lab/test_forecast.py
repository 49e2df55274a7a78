"""The forecast's evidence: figures in code and document are those of the committed cells, and the control loses."""

from pathlib import Path

import pytest

from benchmarks.report import forecast as report
from benchmarks.report.forecast import Point, control_error, error, points
from benchmarks.runner.records import Records
from otmerge_hf.alignment.forecasting import ERRORS_OF_FEW, ERRORS_OF_MORE, FEW


ROOT = Path(__file__).parents[2]
RECORDS = list(Records(ROOT / "benchmarks/results/forecast/cells.jsonl").read().values())
DOCUMENT = (ROOT / "docs/forecast.md").read_text()


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("times", ERRORS_OF_FEW)
def test_error_that_is_shown_is_the_measured_one_and_better_than_the_mean(times, few):
    assert report.FEW == FEW
    found = [point for point in points(RECORDS, times) if (point.pairs <= FEW) == few]
    assert error(found) == pytest.approx((ERRORS_OF_FEW if few else ERRORS_OF_MORE)[times], abs=0.005)
    for alike in (lambda point: None, lambda point: point.pairs, lambda point: point.candidates):
        assert error(found) < 0.5 * control_error(found, alike)


def test_control_says_the_mean_of_the_other_sets():
    found = [Point(name, 50, 100, 0.5, value, value, True) for name, value in (("a", 0.1), ("b", 0.3), ("b", 0.5))]
    assert control_error(found) == pytest.approx((0.3 + 0.2 + 0.4) / 3)
    assert error(found) == pytest.approx((0.4 + 0.2 + 0) / 3)


def test_document_has_the_table():
    table = (ROOT / "benchmarks/results/forecast/table.md").read_text().partition("\n\n")[2]
    assert table in DOCUMENT
