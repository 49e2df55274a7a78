"""The suites besides easy-VQA: what a part needs, and a smallest run of each in its own process."""

import json
from argparse import ArgumentParser

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from benchmarks.command_line import main
from benchmarks.runner.cell import Place
from benchmarks.runner.records import Records
from benchmarks.suites import alignment_flickr8k, alignment_flickr8k_few
from benchmarks.suites.alignment import PAIRS, PARTS, SUITE, VARIABLE
from benchmarks.suites.alignment_few_pairs import _few_data
from benchmarks.suites.alignment_flickr8k import flickr8k
from benchmarks.suites.alignment_flickr8k_few import flickr8k_few
from benchmarks.suites.alignment_parts import trained
from benchmarks.suites.alignment_report import markdown
from benchmarks.suites.scaling_timing import time_lookup
from benchmarks.suites.transport_rivals import clouds, reference
from benchmarks.suites.transport_timing import errors
from benchmarks.suites.transport_tiny_rivals import contestants


def test_trained_heads_need_the_closed_forms(tmp_path):
    with pytest.raises(ValueError, match="run `--parts closed` first"):
        trained({"part": "trained"}, Place(tmp_path, tmp_path))


@pytest.mark.parametrize("named", [None, "argument", "environment"])
def test_flickr8k_is_a_part_where_its_folder_is_named(named, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path) if named == "environment" else "")
    parser = ArgumentParser()
    SUITE.add_arguments(parser)
    cells = SUITE.cells(parser.parse_args(["--data", str(tmp_path)] if named == "argument" else []))
    assert [cell.choices for cell in cells if "flickr8k" in cell.choices["part"]] == (
        [{"part": "flickr8k"}, *({"part": "flickr8k_few", "seeds": 5, "pairs": n} for n in PAIRS)] if named else []
    )
    with pytest.raises(FileNotFoundError, match=f"No flickr8k at {tmp_path if named else None}: --data or {VARIABLE}"):
        flickr8k({"part": "flickr8k"}, Place(tmp_path, tmp_path))


@pytest.fixture
def coloured(monkeypatch, tmp_path, encoder, tokenizer):
    """Coloured pictures in flickr8k's layout, and tiny encoders in place of the real ones."""
    for split, count in (("train", 40), ("validation", 12), ("test", 12)):
        folder = tmp_path / "flickr8k" / split
        folder.mkdir(parents=True)
        lines = []
        for i in range(count):
            name, color = (("red", (255, i, 0)), ("green", (i, 255, 0)), ("blue", (0, i, 255)))[i % 3]
            Image.new("RGB", (32, 32), color).save(folder / f"{i}.png")
            captions = [f"a {name} circle", f"is there a {name} square ?"]
            lines.append(json.dumps({"file_name": f"{i}.png", "captions": captions}))
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    encoder("vit").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    encoder("bert").save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    monkeypatch.setattr(alignment_flickr8k, "ENCODERS", (str(tmp_path / "vit"), str(tmp_path / "bert")))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return Place(tmp_path / "results", tmp_path / "cache")


def test_flickr8k_is_aligned_refined_and_reported(coloured, tmp_path):
    parser = ArgumentParser()
    SUITE.add_arguments(parser)
    given = ["--parts", "flickr8k", "--context", str(tmp_path / "vit"), "--context-tokens", "1"]
    (cell,) = SUITE.cells(parser.parse_args(given))
    record = json.loads(json.dumps(flickr8k(cell.choices, coloured))) | {"settings": cell.choices, "machine": {}}
    made = record["result"]
    assert made["refinement"]["after"] >= made["refinement"]["before"]
    assert [made[kind]["train"] for kind in ("images", "texts", "pairs")] == [40, 6, 80]
    shown = markdown([record], PARTS)
    assert f"{made['test']['query_to_context_recall@1']:9.4f}" in shown
    assert "40 photographs with 80 captions to fit on, 12 to choose by" in shown
    assert "Tokens: `1`. The best fit" in shown


def test_a_draw_takes_one_caption_of_each_photograph():
    pairs = torch.stack([torch.arange(30) // 3, torch.arange(30)], dim=1)
    drawn = alignment_flickr8k_few._draw(pairs, 8, seed=0)
    assert drawn.shape == (8, 2)
    assert len(drawn[:, 0].unique()) == 8
    assert torch.equal(drawn[:, 1] // 3, drawn[:, 0])
    assert not torch.equal(drawn, alignment_flickr8k_few._draw(pairs, 8, seed=1))


def test_few_photographs_of_a_rotation_are_found_by_every_method_and_reported(monkeypatch, tmp_path):
    """Rows behind a rotation stand for features; what reads those is the part `flickr8k`'s."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(160, 8, generator=generator)
    rotated = x @ torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    index = torch.arange(120)[:, None].expand(-1, 2)
    features = (x[:120], rotated[:120], index), (x[120:], rotated[120:], index[:40]), torch.eye(8)
    monkeypatch.setattr(alignment_flickr8k_few, "_features", lambda place: features)
    records = []
    for count in (60, 40):
        settings = {"part": "flickr8k_few", "seeds": 2, "pairs": count}
        made = json.loads(json.dumps(flickr8k_few(settings, Place(tmp_path, tmp_path))))
        records.append(made | {"settings": settings, "machine": {"cores": 2}})
        exact = {name: [run["test"] for run in row["runs"]] for name, row in made["by_pairs"][str(count)].items()}
        assert exact.pop("ridge") > [0.9, 0.9]
        assert exact == {name: [1.0, 1.0] for name in exact}, "no training moves a start that validation cannot better"
    shown = [line for line in markdown(records, PARTS).splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in shown] == ["| 40"] * 11 + ["| 60"] * 11
    assert shown[0].endswith("1.0000 [1.0000, 1.0000] | - |  |"), (
        "the best closed form is what others are compared with"
    )
    assert shown[1].endswith("+0.0000 [+0.0000, +0.0000] | no |")


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
        (["transport-tiny", "--sizes", "2x3x4x5", "--epsilons", "0.5"], {"rows", "iterations", "gradient_bar"}),
        (["trainer-overhead", "--rows", "256", "--rounds", "1"], {"turns", "wall_ratio", "cpu_ratio"}),
        (["feature-extraction", "--quick", "--sides", "photographs"], {"turns"}),
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


@pytest.mark.parametrize("epsilon", [0.01, 0.5])  # POT's loops take another method at either
def test_contestants_on_tiny_problems_agree_with_the_reference(epsilon):
    x, y = clouds((2, 3, 5), (2, 4, 5))
    epsilons = epsilon * (0.5 * torch.cdist(x.double(), y.double()) ** 2).mean((-2, -1))
    truth = [np.stack(part) for part in zip(*map(reference, x, y, epsilons.tolist()), strict=True)]
    players = contestants(x, y, epsilon, epsilons)
    assert {player.name for player in players} >= {"otmerge_hf", "POT ot.solve", "POT NumPy"}
    for player in players:
        if "kernel" not in player.name:  # it diverges at small epsilon
            assert max(errors(player.run(player.knobs[-1]), truth)) < 1e-2, player.name


def test_a_store_of_sparse_files_is_opened_and_read(tmp_path):
    found = time_lookup(2000, tmp_path)
    assert found["files"] == 4
    assert found["bytes"] > 2000 * 20 * 384 * 2 > 100 * found["disk"] > 0
    assert found["batch"] > 0
    assert not list(tmp_path.iterdir())
