"""Table and plots from JSON: the numbers in the rows are those of the cells."""

import pytest

from benchmarks.report.summary import ablations, against_control, groups
from benchmarks.report.table import markdown
from benchmarks.report.write import write_report
from benchmarks.runner.records import Records


@pytest.fixture
def results(result):
    accuracies = {"no_alignment": (0.70, 0.72, 0.71), "merged": (0.73, 0.74, 0.75), "joint": (0.80, 0.80, 0.80)}
    made = [
        result(m, seed, a, cpu=500.0 if m == "joint" else 10.0)
        for m, v in accuracies.items()
        for seed, a in enumerate(v)
    ]
    made += [result("merged", 0, 0.60, shared_dim=64), result("merged", 0, 0.55, fraction=0.01)]
    refused = result("weight_average") | {"refused": "no correspondence"}
    return [*made, {name: refused[name] for name in ("key", "settings", "machine", "refused")}]


def row(table, start):
    line = next(line for line in table.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows(results):
    table = markdown(results)
    merged = row(table, "merged")
    assert merged[1] == "3"
    assert merged[2].startswith("0.7400 [0.7152, 0.7648]")
    assert merged[3].startswith("+0.0300 [+0.0052, +0.0548]")
    assert merged[4] == "386 / 0 / 3,000 / 0"
    assert merged[6] == "10 + 5"
    assert row(table, "no_alignment")[3] == "-"
    assert row(table, "merged (shared_dim=64)")[2] == "0.6000"
    assert "- `weight_average`: no correspondence." in table
    assert "### 1% of the images labelled" in table


def test_a_column_that_no_cell_fills_is_left_out(results):
    heads = [line for line in markdown(results).splitlines() if line.startswith("| method |")]
    assert heads
    assert not any("reconstruction error" in head or "latency" in head for head in heads)
    results[0] |= {"reconstruction_error": {"context": 0.25, "query": None}}
    first, second = [line for line in markdown(results).splitlines() if line.startswith("| method |")]
    assert "reconstruction error" in first  # the table with the cell, not the one without
    assert "reconstruction error" not in second
    assert row(markdown(results), "no_alignment")[-1] == "0.25 / -"


def test_ratios_to_joint(results):
    lines = markdown(results).split("relative to `joint`")[1]
    assert row(lines, "merged")[1:] == ["92.50%", "3.00%", "100.00%", "23.33%", "10.00%"]


def test_control_of_the_same_choices_first(result):
    made = [result("no_alignment", 0, 0.5), result("no_alignment", 0, 0.4, shared_dim=64)]
    made += [result("merged", 0, 0.6), result("merged", 0, 0.6, shared_dim=64), result("merged", 0, 0.6, epsilon=0.1)]
    made += [result("paired", 0, 0.6)]
    everything = groups(made)
    found = {group.name: against_control(group, everything) for group in everything}
    assert found["merged (shared_dim=64)"].mean == pytest.approx(0.2)
    assert found["merged (epsilon=0.1)"].mean == pytest.approx(0.1)
    assert found["no_alignment"] is None


def test_ablation_lines_follow_one_axis(result):
    made = [result("merged", 0, 0.6), result("merged", 1, 0.6), result("no_alignment", 0, 0.5)]
    made += [result("merged", 0, 0.5, shared_dim=64), result("merged", 0, 0.4, shared_dim=64, epsilon=0.1)]
    found = ablations(groups(made))
    assert list(found) == ["shared_dim"]
    (points,) = found["shared_dim"].values()
    assert [(value, len(group.cells)) for value, group in points] == [(64, 1), (128, 2)]


def test_files_are_made_from_the_json_alone(results, tmp_path):
    folder = tmp_path / "easy-vqa"
    for result in results:
        Records(folder / "cells.jsonl").add(result)
    document = tmp_path / "evidence.md"
    document.write_text("before\n<!-- easy-vqa -->\nstale\n<!-- /easy-vqa -->\nafter\n")
    names = {path.name for path in write_report(folder, document)}
    pictures = {"accuracy-against-compute.png", "accuracy-against-labels.png", "ablation-shared_dim.png"}
    assert names == {"table.md", "evidence.md"} | pictures
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in pictures)
    text = document.read_text()
    assert "stale" not in text
    assert "merged (shared_dim=64)" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_refuses_no_results_and_a_document_without_its_place(results, tmp_path):
    with pytest.raises(ValueError, match="holds no cells"):
        write_report(tmp_path)
    Records(tmp_path / "cells.jsonl").add(results[0])
    (tmp_path / "doc.md").write_text("nothing")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_report(tmp_path, tmp_path / "doc.md")
