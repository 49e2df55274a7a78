"""The README opens with what to do, and its figures are those of a committed run; `docs/test_blocks.py` runs it."""

import json
from pathlib import Path


ROOT = Path(__file__).parents[1]


def test_readme_opens_with_the_two_commands():
    head = (ROOT / "README.md").read_text()[:600]
    assert "make demo" in head
    assert "make test" in head


def test_readme_results_are_those_of_the_committed_run():
    readme = (ROOT / "README.md").read_text()
    results = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text())
    assert results["test_questions"] == 9673
    for row in results["rows"].values():
        assert f"| {row['accuracy']:.4f} | {row['trainable']:,} | {row['seconds']:.0f} |" in readme
    assert f"took {results['total_seconds']:.0f} s" in readme
