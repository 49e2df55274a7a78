"""Every family in pairs: what is committed leaves nothing unexplained, and the checks themselves can fail."""

from pathlib import Path

import pytest
import torch

from benchmarks.report.write import insert
from benchmarks.runner.records import Records
from benchmarks.suites import zoo_report
from benchmarks.suites.zoo import pairs
from benchmarks.suites.zoo_build import make_folder
from benchmarks.suites.zoo_families import AUDIO, OTHER, VISION
from benchmarks.suites.zoo_pair import CHECKS, check_pair, compare, outcome
from benchmarks.suites.zoo_report import EXPECTED, markdown, outcomes, reasons, unexplained
from benchmarks.suites.zoo_texts import TEXT


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed():
    return list(Records(ROOT / "benchmarks" / "results" / "zoo" / "cells.jsonl").read().values())


def test_nothing_differs_and_nothing_fails_deep_without_a_reason(committed):
    assert unexplained(committed) == []
    assert not [said for *_, said in outcomes(committed) if said.startswith(("traceback", "differs"))]
    assert len({(context, query) for context, query, *_ in outcomes(committed)}) >= 200


def test_every_pair_was_tried_and_every_reason_is_needed(committed):
    assert {r["settings"]["context"]: list(r["pairs"]) for r in committed} == pairs()
    needed = {why for one in outcomes(committed) if one[3] != "ok" for why in reasons(*one)}
    assert needed == set(EXPECTED)
    assert {name for name, check in EXPECTED if check == "build"} == set(OTHER)


def test_each_family_meets_images_sounds_and_texts():
    table = pairs()
    for name in TEXT:
        for kind in (VISION, AUDIO, TEXT):
            assert any(name in table[context] for context in kind if context in table), (name, kind)
    assert all(len(set(table[name])) >= 3 for name in VISION | AUDIO)


def test_the_page_has_the_table(committed):
    page = (ROOT / "docs" / "encoders.md").read_text()
    assert insert(page, "zoo", markdown(committed)) == page


@pytest.mark.parametrize(
    ("context", "query"), [("siglip2-vision", "gpt2"), ("moonshine", "siglip-text"), ("xlnet", "fnet")]
)
def test_a_pair(context, query, tmp_path):
    folders = {name: tmp_path / name for name in (context, query)}
    for name, folder in folders.items():
        make_folder(name, folder)
    (tmp_path / "work").mkdir()
    found = check_pair(context, query, folders, tmp_path / "work")
    assert set(found) == {"build", *CHECKS}
    assert unexplained([{"settings": {"context": context}, "pairs": {query: found}}]) == []


def test_refused_by_name(tmp_path):
    folders = {name: tmp_path / name for name in ("vivit", "bert")}
    for name, folder in folders.items():
        make_folder(name, folder)
    found = check_pair("vivit", "bert", folders, tmp_path)
    assert found == {"build": "refused: " + found["build"].partition(": ")[2]}
    assert "`vivit`" in found["build"]


def test_how_a_check_ends():
    from otmerge_hf import OTMergeConfig

    def deep():
        return torch.zeros(2).view(3)

    assert outcome(lambda: None) == "ok"
    assert outcome(lambda: OTMergeConfig(shared_dim=0)).startswith("refused: `shared_dim` is 0")
    assert outcome(deep).startswith("traceback: RuntimeError: shape '[3]' is invalid")
    one = dict.fromkeys(("context_embeds", "query_embeds", "logits"), torch.ones(2, 3))
    assert compare(one, one, 0.0) is None
    assert compare(one, one | {"query_embeds": torch.full((2, 3), 1.5)}) == "differs: query by 5.0e-01"
    assert compare(one, one | {"logits": torch.full((2, 3), torch.nan)}) == "differs: logits by nan"


def test_no_reason_covers_an_error_from_below(monkeypatch):
    monkeypatch.setattr(zoo_report, "EXPECTED", {("bert", "alone"): "why"})
    for said, count in (("ok", 0), ("differs: query by 1.0e+00", 0), ("traceback: KeyError: 1", 1)):
        record = {"settings": {"context": "vit"}, "pairs": {"bert": {"alone": said}}, "versions": {"torch": "2"}}
        assert len(unexplained([record])) == count
        assert ("Without a stated reason:" in markdown([record]).partition("\n\n")[2]) is bool(count)
