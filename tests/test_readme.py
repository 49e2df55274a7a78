"""The README opens with what to do, and its figures are those of a committed run; `docs/test_blocks.py` runs it."""

import json
import re
import tomllib
from pathlib import Path

from benchmarks.suites import SUITES


ROOT = Path(__file__).parents[1]


def test_readme_opens_with_the_two_commands():
    head = (ROOT / "README.md").read_text()[:600]
    assert "make demo" in head
    assert "make test" in head


def test_extras_and_suites_are_listed_whole():
    named = (ROOT / "README.md").read_text().split("## Install")[1].split("\n## ")[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [extra for extra in extras if f"`{extra}`" not in named and f"[{extra}]" not in named] == ["dev"]
    listed = re.search(r"^\| `suites/` \|.*", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[0]
    assert [suite for suite in SUITES if f"`{suite}`" not in listed] == []


def test_readme_results_are_those_of_the_committed_run():
    readme = (ROOT / "README.md").read_text()
    results = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text())
    assert results["test_questions"] == 9673
    for row in results["rows"].values():
        assert f"| {row['accuracy']:.4f} | {row['trainable']:,} | {row['seconds']:.0f} |" in readme
    assert f"took {results['total_seconds']:.0f} s" in readme
