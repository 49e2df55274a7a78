"""The table of docs/scaling.md is what its program prints, with the rates and sizes that were measured."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scaling.md").read_text()


def test_the_table_is_what_the_program_prints():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.count("\n") == 4
    assert printed in PAGE


def test_the_rates_are_the_committed_ones():
    path = ROOT / "benchmarks" / "results" / "feature-extraction" / "cells.jsonl"
    for line in path.read_text().splitlines():
        record = json.loads(line)
        settings = record["settings"]
        if settings["source"] == "flickr8k" and settings["threads"] == 1:
            seconds = statistics.median(turn["encode"]["cpu"] for turn in record["turns"])
            assert f"{settings['count']} / {seconds:.2f}" in PAGE


def test_the_tables_are_those_of_the_suite():
    rows = [
        line
        for line in (ROOT / "benchmarks" / "results" / "scaling" / "table.md").read_text().splitlines()
        if line.startswith(("|", "Bar"))
    ]
    assert len(rows) >= 5
    assert [line for line in rows if line not in PAGE] == []
