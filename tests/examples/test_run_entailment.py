"""`examples/run_entailment.py` with tiny encoders, on the columns of SNLI-VE, of e-SNLI-VE and of Hateful Memes."""

import json
import random

import pytest
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig

from tests.data.question_folders import write_csv


COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def pairs(count):
    """(picture, statement, class): the statement names the picture's colour, or another, or none."""
    draw = random.Random(0)
    for row in range(count):
        color = draw.choice(list(COLORS))
        image = Image.new("RGB", (32, 32), tuple(max(value - row, 0) for value in COLORS[color]))
        other = draw.choice([name for name in COLORS if name != color])
        yield image, f"the shape is {color}", "entailment"
        yield image, f"the shape is {other}", "contradiction"
        yield image, "is there a shape", "neutral"


def snli_ve(folder):
    made = [{"Flickr30K_ID": str(row), "gold_label": label, "image": image, "sentence": text}
            for row, (image, text, label) in enumerate(pairs(50))]  # fmt: skip
    Dataset.from_list(made).to_parquet(folder / "train.parquet")


def esnli_ve(folder):
    lines = []
    for row, (image, text, label) in enumerate(pairs(50)):
        image.save(folder / f"{row // 3}.png")
        lines.append((f"{row}r1", f"{row // 3}.png", text, label, "because"))
    write_csv(folder / "pairs.csv", lines, ("pair_id", "file_name", "hypothesis", "label", "explanation"))


def hateful_memes(folder):
    lines = []
    for row, (image, text, label) in enumerate(pairs(50)):
        if label != "neutral":
            image.save(folder / f"{row // 3}.png")
            meme = {"id": row, "img": f"{row // 3}.png", "label": int(label == "contradiction"), "text": text}
            lines.append(json.dumps(meme))
    for name, part in {"train": lines[:60], "dev": lines[60:80], "test": lines[80:]}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(part) + "\n")


@pytest.mark.parametrize("write", [snli_ve, esnli_ve, hateful_memes])
def test_three_schemas_are_read_trained_and_scored_beside_the_statements_alone(train, tmp_path, capsys, write):
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    options = {"do_train": True, "do_eval": True, "max_steps": 20}
    folder = train("run_entailment", "merge", data=tmp_path / "data", **options)
    found = json.loads((folder / "evaluation.json").read_text())
    classes = ["0", "1"] if write is hateful_memes else ["contradiction", "entailment", "neutral"]
    assert sorted(found["by_answer"]) == classes
    assert sorted(AutoConfig.from_pretrained(folder).id2label.values()) == classes
    scores = found["scores"]
    assert list(scores) == ["most frequent class", "statements only, linear", "merged"]
    assert scores["most frequent class"] == pytest.approx(1 / len(classes))
    # a statement without its picture is either of two classes; "neutral" shows in the words
    assert scores["statements only, linear"] < 1
    assert scores["merged"] == found["score"]
    assert f"merged                    {found['score']:.4f}" in capsys.readouterr().out


def test_it_goes_on_by_itself_and_says_so(train, error, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    esnli_ve(tmp_path / "data")
    options = {"data": tmp_path / "data", "do_train": True, "max_steps": 4}
    first = (train("run_entailment", "merge", **options) / "model.safetensors").read_bytes()
    monkeypatch.setattr("otmerge_hf.training.growth.train_fuser", None)  # would fail if it were called
    assert (train("run_entailment", "merge", **options) / "model.safetensors").read_bytes() == first
    assert "goes on by itself" in error(train, "run_entailment", "merge", **options, resume_from_checkpoint="x")
    assert "error: --data is missing" in error(train, "run_entailment", "merge", do_train=True)
