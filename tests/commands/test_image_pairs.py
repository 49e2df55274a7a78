"""`otmerge check`, `train`, `evaluate` and `ask` about two pictures a row, of which the order decides."""

import csv
import json
import random

import pytest
from PIL import Image as Picture
from transformers import ViTImageProcessor

from otmerge_hf import cli


QUESTION = "is the left a red ?"
OTHERS = [(0, 255, 0), (0, 0, 255), (0, 0, 0)]


@pytest.fixture
def folder(tmp_path, monkeypatch, encoder, tokenizer):
    """Saved encoders, and pictures in pairs with exactly one red: where it stands decides, what there is does not."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    encoder("vit").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    encoder("bert").save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    draw = random.Random(0)
    (tmp_path / "pictures").mkdir()
    with (tmp_path / "pictures" / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["left", "right", "sentence", "label"])
        for i in range(120):
            colors = [(255, 0, 0), draw.choice(OTHERS)][:: draw.choice((1, -1))]
            names = [f"{i}-left.png", f"{i}-right.png"]
            for name, color in zip(names, colors, strict=True):
                picture = Picture.new("RGB", (32, 32), tuple(max(v - i, 0) for v in color))
                picture.putpixel((0, 0), (i, len(name), 0))  # no two are alike: copies would be one picture
                picture.save(tmp_path / "pictures" / name)
            writer.writerow([*names, QUESTION, "yes" if colors[0][0] else "no"])
    return tmp_path


COLUMNS = ["--image-column", "left", "--image-column", "right"]


def words(folder, *extra):
    given = {"context": "vit", "query": "bert", "data": "pictures", "output": "merge", "cache-dir": "features"}
    paths = [word for name, value in given.items() for word in (f"--{name}", str(folder / value))]
    size = ["--least-steps", "120", "--shared-dim", "32", "--train-batch-size", "32", "--learning-rate", "3e-3"]
    return ["train", *paths, *COLUMNS, "--device", "cpu", *size, *extra]


def test_which_picture_is_the_left_one_is_learnt(folder, capsys):
    data = ["--data", str(folder / "pictures"), *COLUMNS]
    assert cli.main(["check", *data]) == 0
    assert "No bad rows." in capsys.readouterr().out
    assert cli.main(words(folder)) == 0
    results = json.loads((folder / "merge" / "results.json").read_text())
    assert results["counts"]["test"].items() >= {"rows": 18, "images": 36, "texts": 1}.items()
    assert results["test"]["merged"] >= 0.9 > 0.7 > results["test"]["words only, linear"]

    given = ["--model", str(folder / "merge"), *data, "--cache-dir", str(folder / "features")]
    assert cli.main(["evaluate", *given, "--output", str(folder / "found")]) == 0
    found = json.loads((folder / "found" / "evaluation.json").read_text())
    assert found["score"] == pytest.approx(results["test"]["merged"])
    assert "mistakes.png is not drawn: rows are about several images" in capsys.readouterr().out

    asked = ["ask", "--model", str(folder / "merge")]
    with (folder / "pictures" / "pairs.csv").open(newline="") as file:
        true = [row["label"] for row in csv.DictReader(file)]
    table = ["--csv", str(folder / "pictures" / "pairs.csv"), "--output", str(folder / "answers.csv")]
    assert cli.main([*asked, *table, *COLUMNS]) == 0
    with (folder / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["answer"] == label for row, label in zip(rows, true, strict=True)) >= 108
    assert [name.rsplit("/", 1)[-1] for name in rows[0]["image"].split("; ")] == ["0-left.png", "0-right.png"]

    capsys.readouterr()
    red, blue = (str(folder / "pictures" / name) for name in ("0-left.png", "0-right.png"))
    said = []
    for images in ((red, blue), (blue, red)):
        pictures = [word for image in images for word in ("--image", image)]
        assert cli.main([*asked, *pictures, "--question", QUESTION, "--top-k", "1"]) == 0
        said.append(capsys.readouterr().out.split()[-1])
    assert sorted(said) == ["no", "yes"]


def test_what_takes_one_image_a_row_says_so(folder, capsys):
    (folder / "captions").mkdir()
    lines = ["file_name,text"]
    for i in range(12):
        Picture.new("RGB", (32, 32), (20 * i, 0, 0)).save(folder / "captions" / f"{i}.png")
        lines.append(f"{i}.png,the shape is red")
    (folder / "captions" / "metadata.csv").write_text("\n".join(lines) + "\n")
    more = folder / "captions" / "more.csv"
    more.write_text("left,right,question\n" + "".join(f"{i}.png,{i + 1}.png,is it red ?\n" for i in range(6)))
    assert cli.main(words(folder, "--captions", str(folder / "captions"), "--unlabelled", str(more))) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--unlabelled is for questions about one image each; some have several images a row" in line


def test_a_dry_run_counts_every_picture(folder, capsys):
    assert cli.main(words(folder, "--dry-run")) == 0
    assert "encode 240 images and 1 texts" in capsys.readouterr().out
