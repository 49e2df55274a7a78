"""`python -m benchmarks`: what it lists, plans and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command_line import main
from benchmarks.methods import METHODS
from benchmarks.runner.recipe import Recipe
from benchmarks.suites import SUITES


ROOT = Path(__file__).parents[2]


def test_list_names_everything_and_imports_nothing_heavy():
    code = (
        "import runpy, sys; sys.argv = ['benchmarks', 'list']\n"
        "try: runpy.run_module('benchmarks', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('torch', 'transformers', 'otmerge_hf', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    starts = [line.split()[0] for line in lines if line.startswith("  ")]
    assert starts == [*SUITES, *METHODS, *(f"{name}={value}" for name, value, _ in Recipe.describe())]
    assert all(len(line) <= 130 for line in lines)


@pytest.mark.parametrize("suite", SUITES)
def test_dry_run_says_what_is_done(suite, capsys, tmp_path):
    words = ["--methods", "merged", "--seeds", "1"] if suite == "easy-vqa" else []
    if suite == "int8":  # a cell is of a merge, known by the command that trained it
        lines = (ROOT / "benchmarks" / "results" / "int8" / "cells.jsonl").read_text().splitlines()
        cells = [json.loads(line)["settings"] for line in lines]
        command = next(cell["trained_by"] for cell in cells if cell["data"] == "easy-vqa")
        (tmp_path / "results.json").write_text(json.dumps({"settings": {"command": command}}))
        words = ["--merge", str(tmp_path)]
    assert main(["run", suite, "--dry-run", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert any(line.startswith("done ") for line in lines)


def test_a_trial_has_a_folder_of_its_own(capsys):
    assert main(["run", "easy-vqa", "--reduced", "--dry-run"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"to"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "easy-vqa", "--methods", "jiont"], "`method` is 'jiont'; expected one of"),
        (["run", "easy-vqa", "--set", "epochs"], "`epochs` is no choice; expected NAME=VALUE"),
        (["run", "transport", "--sizes", "64"], "`sizes` has '64'; expected N and D"),
        (["run", "transport-tiny", "--sizes", "2x3x4"], "`sizes` has '2x3x4'; expected problems, N, M and D"),
        (["run", "alignment", "--seeds", "1"], "`seeds` is 1; expected at least 2"),
        (["report", "nowhere"], "nowhere holds no cells"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words, message, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m benchmarks: error: ")
    assert message in line
