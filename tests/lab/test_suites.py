"""The suites besides easy-VQA: what a part needs, and a smallest run of each in its own process."""

import pytest
import torch

from benchmarks.command_line import main
from benchmarks.runner.cell import Place
from benchmarks.runner.records import Records
from benchmarks.suites.alignment_few_pairs import _few_data
from benchmarks.suites.alignment_parts import trained


def test_trained_heads_need_the_closed_forms(tmp_path):
    with pytest.raises(ValueError, match="run `--parts closed` first"):
        trained({"part": "trained"}, Place(tmp_path, tmp_path))


@pytest.mark.parametrize("disjoint", [False, True])
def test_row_numbers_of_unpaired_rows_give_no_match(disjoint):
    x = torch.arange(60.0)[:, None]
    context, query, pairs = _few_data(x, x, count=10, seed=0, disjoint=disjoint)
    assert torch.equal(context[pairs[:, 0]], query[pairs[:, 1]])
    left, right = context[10:, 0], query[10:, 0]
    assert (left == right).float().mean() < 0.2
    shared = set(left.tolist()) & set(right.tolist())
    assert len(shared) == (0 if disjoint else 50)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["transport", "--quick", "--sizes", "32x8", "--epsilons", "0.1"], {"rows", "iterations", "gradient_bar"}),
        (["trainer-overhead", "--rows", "256", "--rounds", "1"], {"turns", "wall_ratio", "cpu_ratio"}),
        (["inference", "--quick"], {"batch_1", "batch_32", "questions_per_second_of_ten"}),
    ],
)
def test_smallest_run(words, fields, tmp_path, capsys):
    assert main(["run", *words, "--output", str(tmp_path)]) == 0
    (record,) = Records(tmp_path / "cells.jsonl").read().values()
    assert {"key", "settings", "machine"} | fields <= set(record)
    assert (tmp_path / "table.md").read_text().startswith("# ")
    assert main(["run", *words, "--output", str(tmp_path)]) == 0
    assert "1 cells were done already, 0 ran" in capsys.readouterr().out
