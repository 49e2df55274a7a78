"""Rates and tables of docs/scaling.md are those that were measured; `test_blocks.py` runs its program."""

import json
import statistics

from pages import PAGES, ROOT


PAGE = PAGES["docs/scaling.md"]


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
