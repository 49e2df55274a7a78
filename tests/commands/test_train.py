"""`otmerge train`, `evaluate` and `ask --csv` with tiny encoders, on coloured pictures and a table of questions."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForVisualQuestionAnswering,
    ViTImageProcessor,
    pipeline,
)

from otmerge_hf import OTMergeForQuestionAnswering, cli
from otmerge_hf.data import load_questions


COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
QUESTION, OTHER = "what color is the shape ?", "is there a red square ?"


@pytest.fixture
def folders(tmp_path, monkeypatch, encoder, tokenizer):
    """Saved encoders and a folder of pictures with a table: what the command line is given."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    encoder("vit").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    encoder("bert").save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    write_questions(tmp_path / "mine")
    return tmp_path


def write_questions(folder, count=80):
    """Pictures of one colour, two questions each: its colour, and whether it is red."""
    draw = random.Random(0)
    (folder / "pictures").mkdir(parents=True)
    with (folder / "questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "question", "answer", "question_type"])
        for i in range(count):
            color = draw.choice(list(COLORS))
            Picture.new("RGB", (32, 32), tuple(max(v - i, 0) for v in COLORS[color])).save(
                folder / "pictures" / f"{i}.png"
            )
            writer.writerow([f"pictures/{i}.png", QUESTION, color.title() if i % 5 else color, "what"])
            writer.writerow([f"pictures/{i}.png", OTHER, "yes" if color == "red" else "no", "is"])


def write_captions(folder, count=60):
    """Pictures of one colour with a caption each; returns the lines of the table."""
    folder.mkdir()
    lines = ["file_name,text"]
    for i in range(count):
        name, color = f"captioned-{i:04}.png", list(COLORS)[i % 3]
        shade = tuple(max(v - 3 * i, 0) + 5 * (not v) for v in COLORS[color])
        Picture.new("RGB", (32, 32), shade).save(folder / name)
        lines.append(f"{name},the shape is {color}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return lines


def words(folders, output="merge", data="mine", *extra):
    given = {"context": "vit", "query": "bert", "data": data, "output": output, "cache-dir": "features"}
    paths = [word for name, value in given.items() for word in (f"--{name}", str(folders / value))]
    return ["train", *paths, "--device", "cpu", "--least-steps", "40", "--train-batch-size", "32", *extra]


def test_a_folder_and_a_table_become_a_merge_that_answers(folders, capsys):
    assert cli.main(words(folders)) == 0
    printed = capsys.readouterr().out
    assert "train: 112 rows, 56 images, 2 distinct texts, from questions.csv" in printed
    assert "5 answers (accuracy, one spelling each): no, " in printed
    results = json.loads((folders / "merge" / "results.json").read_text())
    assert results["measure"] == "accuracy"
    assert results["counts"]["test"] == {"rows": 24, "scored": 24, "images": 12, "texts": 2}
    scores = results["test"]
    assert scores["merged"] >= 0.9 > scores["words only, linear"] >= scores["most frequent answer"]
    assert f"merged                            {scores['merged']:.4f}" in printed
    assert "+ words of the question" in printed
    assert results["alignment"] is None

    # its card says so, with the command, and names no folder of this machine
    card = (folders / "merge" / "README.md").read_text()
    assert f"| merged | {scores['merged']:.4f} |" in card
    assert f"| words only, linear | {scores['words only, linear']:.4f} |" in card
    assert "Command: `otmerge train --context vit --query bert --data mine --output merge" in card
    assert str(folders) not in card
    assert "- mine: train 112 rows, 56 images, 2 texts; validation 24 rows" in card
    assert f"{results['parameters']['beside_encoders']:,} parameters beside the encoders" in card

    # scored again from the saved folder, on the very rows that were held out
    given = ["--model", str(folders / "merge"), "--data", str(folders / "mine"), "--cache-dir", str(folders / "f2")]
    assert cli.main(["evaluate", *given, "--output", str(folders / "found")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((folders / "found" / "evaluation.json").read_text())
    assert found["score"] == pytest.approx(scores["merged"])
    assert set(found["by_kind"]["question_type"]) == {"what", "is"}
    assert sum(count for _, count in found["by_kind"]["question_type"].values()) == 24
    assert "accuracy" in printed
    assert (folders / "found" / "mistakes.png").is_file() == (found["score"] < 1)

    # a table of questions without answers
    (folders / "ask.csv").write_text(f"image,question\nmine/pictures/0.png,{QUESTION}\nmine/pictures/1.png,{OTHER}\n")
    asked = ["ask", "--model", str(folders / "merge"), "--csv", str(folders / "ask.csv")]
    assert cli.main([*asked, "--output", str(folders / "answers.csv")]) == 0
    with (folders / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["ask.csv, line 2", "ask.csv, line 3"]
    assert rows[0]["answer"] in COLORS
    assert rows[1]["answer"] in ("yes", "no")
    assert all(0 < float(row["score"]) <= 1 for row in rows)
    assert cli.main(asked) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('"ask.csv, line 3",')


def test_captions_align_it_and_held_out_images_are_left_out(folders, capsys, caplog):
    lines = write_captions(folders / "captions")
    for i in range(80):
        shutil.copy(folders / "mine" / "pictures" / f"{i}.png", folders / "captions" / f"own{i}.png")
        lines.append(f"own{i}.png,a square")
    (folders / "captions" / "metadata.csv").write_text("\n".join(lines) + "\n")
    assert cli.main([*words(folders), "--captions", str(folders / "captions"), "--fit", "procrustes"]) == 0
    printed = capsys.readouterr().out
    results = json.loads((folders / "merge" / "results.json").read_text())
    assert "Left out the captions of 24 images that validation or test ask about." in caplog.text
    assert results["alignment"]["fit"].startswith("Procrustes(")
    pairs = results["alignment"]["counts"]["train"]["pairs"]
    card = (folders / "merge" / "README.md").read_text()
    (line,) = [line for line in card.splitlines() if line.startswith("- To align on, captions: train ")]
    assert f"{pairs} pairs; validation" in line
    assert sum(part["pairs"] for part in results["alignment"]["counts"].values()) == 60 + 80 - 24
    assert "captions, train: 112 images" in printed


def test_a_dry_run_writes_nothing(folders, capsys):
    assert cli.main([*words(folders), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "encode 80 images and 2 texts" in printed
    assert "at most 80 steps" in printed
    assert not (folders / "merge").exists()
    assert not (folders / "features").exists()


def test_settings_from_a_file_and_the_command_line_wins(folders, capsys):
    (folders / "run.yaml").write_text(
        f"context: {folders / 'vit'}\nquery: {folders / 'bert'}\ndata: {folders / 'mine'}\nleast-steps: 5\n"
        f"output: {folders / 'merge'}\ncache-dir: {folders / 'features'}\n"
        "epochs: 1\nnormalize: false\nskip-bad: true\n"
    )
    assert cli.main(["train", "--config", str(folders / "run.yaml"), "--epochs", "0.5"]) == 0
    settings = json.loads((folders / "merge" / "results.json").read_text())["settings"]
    assert (settings["epochs"], settings["least_steps"]) == (0.5, 5)
    assert "8 answers (accuracy)" in capsys.readouterr().out  # "Red" and "red" are two


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epoch: 1\n", "--config {file}: otmerge train has no setting 'epoch'; did you mean 'epochs'?"),
        ("- 1\n", "--config {file}: expected settings as `name: value` lines"),
        ("a: [1\n", "--config {file}: line 2"),
    ],
)
def test_a_bad_settings_file_is_one_line(folders, capsys, text, line):
    file = folders / "bad.yaml"
    file.write_text(text)
    assert cli.main(["train", "--config", str(file)]) == 2
    assert line.format(file=file) in capsys.readouterr().err


def test_finished_stages_are_not_done_again_and_other_settings_start_anew(folders, monkeypatch):
    assert cli.main(words(folders)) == 0
    first = (folders / "merge" / "model.safetensors").read_bytes()
    took = json.loads((folders / "merge" / "results.json").read_text())["seconds"]["answers"]
    monkeypatch.setattr("otmerge_hf.training.growth.train_fuser", None)  # would fail if it were called
    assert cli.main(words(folders)) == 0
    assert (folders / "merge" / "model.safetensors").read_bytes() == first
    again = json.loads((folders / "merge" / "results.json").read_text())["seconds"]["answers"]
    assert again == pytest.approx(took, abs=1e-3), "what a finished stage took is what it took when it was made"
    monkeypatch.undo()
    assert cli.main([*words(folders), "--seed", "1"]) == 0
    assert (folders / "merge" / "model.safetensors").read_bytes() != first


@pytest.mark.slow
def test_killed_in_any_stage_the_same_command_gives_the_same_parameters(folders):
    def start(output):
        given = [*words(folders, output), "--cache-dir", str(folders / f"features-{output}")]
        command = [sys.executable, "-m", "otmerge_hf.cli", *given]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    assert start("whole").wait() == 0
    lasted = time.monotonic() - began
    whole = load_file(folders / "whole" / "model.safetensors")
    killed = 0
    for attempt in range(12):  # each lives a little longer than the one before
        process = start("killed")
        try:
            process.wait(timeout=lasted * (0.35 + 0.06 * attempt))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        else:
            assert process.returncode == 0
            break
    else:
        assert start("killed").wait() == 0
    assert killed >= 3
    again = load_file(folders / "killed" / "model.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_lora_learns_in_both_encoders_and_is_put_into_their_weights(folders, capsys):
    options = ["--lora", "2", "--learning-rate", "3e-3", "--questions-per-context", "2"]
    assert cli.main([*words(folders), *options]) == 0
    assert "merged" in capsys.readouterr().out
    merged = AutoModelForVisualQuestionAnswering.from_pretrained(folders / "merge").otmerge
    for side, folder in (("context", "vit"), ("query", "bert")):
        before = AutoModel.from_pretrained(folders / folder).state_dict()
        after = getattr(merged, f"{side}_encoder").state_dict()
        assert set(before) == set(after)  # nothing of PEFT is left
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved
        assert all(any(part in name for part in ("query", "value", "q_proj", "v_proj")) for name in moved)
    results = json.loads((folders / "merge" / "results.json").read_text())
    given = ["--model", str(folders / "merge"), "--data", str(folders / "mine"), "--cache-dir", str(folders / "f2")]
    assert cli.main(["evaluate", *given, "--output", str(folders / "found"), "--no-gallery"]) == 0
    found = json.loads((folders / "found" / "evaluation.json").read_text())
    assert found["score"] == pytest.approx(results["test"]["merged"])  # what was scored is what was saved


def test_unlabelled_questions_are_answered_by_the_nearest_statement(folders, capsys):
    write_captions(folders / "captions")
    (folders / "more.csv").write_text(
        "image,question\n" + "".join(f"mine/pictures/{i}.png,what color is the shape?\n" for i in range(8))
    )
    extra = ["--captions", str(folders / "captions"), "--fit", "cca", "--unlabelled", str(folders / "more.csv")]
    assert cli.main([*words(folders), *extra]) == 0
    splits = load_questions(folders / "mine")
    train = {splits.train.images[place].name for place in splits.train.image_rows}
    used = len(train & {f"{i}.png" for i in range(8)})  # nothing is learnt about images that validation or test ask of
    assert 0 < used < 8
    assert f"{used} unlabelled rows were answered by the aligned encoders." in capsys.readouterr().out
    assert json.loads((folders / "merge" / "results.json").read_text())["pseudo_labels"] == used
    assert cli.main([*words(folders), "--unlabelled", str(folders / "more.csv")]) == 2
    assert "--unlabelled needs --captions" in capsys.readouterr().err


def test_captions_of_the_very_images_that_are_asked_about_are_divided_anew(folders, capsys):
    captioned = [f"mine/pictures/{i}.png,the shape number {i}" for i in range(80)]
    (folders / "captions.csv").write_text("\n".join(["file_name,text", *captioned]) + "\n")
    extra = ["--captions", str(folders / "captions.csv"), "--fit", "cca"]
    assert cli.main([*words(folders), *extra, "--dry-run"]) == 0
    assert cli.main([*words(folders), *extra]) == 0
    found = json.loads((folders / "merge" / "results.json").read_text())["alignment"]["counts"]
    asked = load_questions(folders / "mine")
    left = 80 - len(asked.validation.images) - len(asked.test.images)
    assert sum(found[name]["images"] for name in ("train", "validation", "test")) == left
    held = {path.stem for part in (asked.validation, asked.test) for path in part.images}
    only = [line for i, line in enumerate(captioned) if str(i) in held]
    (folders / "captions.csv").write_text("\n".join(["file_name,text", *only]) + "\n")
    capsys.readouterr()
    assert cli.main([*words(folders), *extra]) == 2
    assert "that neither validation nor test ask about" in capsys.readouterr().err


def test_images_alone_and_several_labels_are_classified(folders, capsys):
    table = folders / "mine" / "questions.csv"
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["question"] == QUESTION]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["image", "labels"]] + [[row["image"], json.dumps([row["answer"].lower(), "shape"])] for row in rows]
        )
    assert cli.main(words(folders)) == 0
    results = json.loads((folders / "merge" / "results.json").read_text())
    assert results["measure"] == "F1"
    assert results["test"]["merged"] > results["test"]["words only, linear"]
    pipe = pipeline("otmerge-classification", model=str(folders / "merge"), device="cpu")
    best = pipe(str(folders / "mine" / rows[0]["image"]), top_k=2)
    assert {one["label"] for one in best} == {rows[0]["answer"].lower(), "shape"}
    with pytest.raises(TypeError, match="`question` is no argument of this pipeline; expected `text`"):
        pipe(str(folders / "mine" / rows[0]["image"]), question="what?")
    card = (folders / "merge" / "README.md").read_text()
    assert 'pipeline("otmerge-classification"' in card
    assert "It sorts images with texts into 4 classes." in card
    assert cli.main(["ask", "--model", str(folders / "merge"), "--image", str(folders / "mine" / rows[0]["image"]),
                     "--question", ""]) == 0  # fmt: skip
    assert f"{best[0]['score']:.3f}  {best[0]['label']}" in capsys.readouterr().out


def test_what_was_trained_on_is_not_scored_after_another_seed(folders, capsys):
    assert cli.main([*words(folders), "--seed", "1"]) == 0
    trained = json.loads((folders / "merge" / "results.json").read_text())
    assert str(folders) not in json.dumps(trained["settings"]["reading"])  # no folder of this machine travels
    given = ["--model", str(folders / "merge"), "--cache-dir", str(folders / "f2"), "--output"]
    assert cli.main(["evaluate", *given, str(folders / "found"), "--data", str(folders / "mine")]) == 0
    found = json.loads((folders / "found" / "evaluation.json").read_text())
    assert found["score"] == pytest.approx(trained["test"]["merged"])
    splits = load_questions(folders / "mine", seed=1)
    names = {splits.test.images[place].name for place in splits.test.image_rows}
    assert not names & {splits.train.images[place].name for place in splits.train.image_rows}
    assert found["rows"] == len(splits.test)
    # another table is scored whole: nothing of it was trained on
    (folders / "other.csv").write_text(
        "image,question,answer\n" + "".join(f"mine/pictures/{i}.png,{OTHER},no\n" for i in range(9))
    )
    assert cli.main(["evaluate", *given, str(folders / "found"), "--data", str(folders / "other.csv")]) == 0
    assert json.loads((folders / "found" / "evaluation.json").read_text())["rows"] == 9
    assert "all rows are scored" in capsys.readouterr().out
    assert (folders / "found" / "mistakes.png").is_file()  # some of the pictures are red, and the table denies it


def test_other_encoders_in_the_same_folders_start_anew(folders, encoder):
    write_captions(folders / "captions")
    given = [*words(folders), "--captions", str(folders / "captions"), "--fit", "cca"]
    assert cli.main(given) == 0
    torch.manual_seed(7)
    AutoModel.from_config(AutoModel.from_pretrained(folders / "vit").config).save_pretrained(folders / "vit")
    assert cli.main(given) == 0
    again = load_file(folders / "merge" / "model.safetensors")
    given[given.index(str(folders / "merge"))] = str(folders / "fresh")
    assert cli.main(given) == 0
    fresh = load_file(folders / "fresh" / "model.safetensors")
    assert all(torch.equal(again[name], fresh[name]) for name in fresh)


def test_an_encoder_without_a_pooler_is_encoded_once(folders, caplog):
    """A classifier's checkpoint has none, and transformers draws one at each load."""
    config = AutoModel.from_pretrained(folders / "vit").config
    AutoModelForImageClassification.from_config(config).save_pretrained(folders / "vit")
    assert cli.main(words(folders)) == 0
    first = load_file(folders / "merge" / "model.safetensors")
    caplog.clear()
    assert cli.main(words(folders)) == 0
    assert "computed features" not in caplog.text
    again = load_file(folders / "merge" / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first if "pooler" not in name)
    assert cli.main([*words(folders), "--context-tokens", "pooled"]) == 2


def test_a_dry_run_refuses_what_the_work_would_refuse(folders, capsys):
    (folders / "more.csv").write_text(f"image,question\nmine/pictures/0.png,{QUESTION}\n")
    assert cli.main([*words(folders), "--dry-run", "--unlabelled", str(folders / "more.csv")]) == 2
    assert "--unlabelled needs --captions" in capsys.readouterr().err
    assert cli.main([*words(folders), "--shared-dim", "10"]) == 2
    assert "--shared-dim is 10; expected a multiple of 8" in capsys.readouterr().err
    assert cli.main([*words(folders), "--dry-run", "--lora", "2"]) == 0
    assert "at most 40 steps" in capsys.readouterr().out  # once, not twice


def test_captions_columns_have_flags_of_their_own(folders, capsys):
    lines = write_captions(folders / "captions")
    (folders / "captions" / "metadata.csv").unlink()
    table = folders / "captions" / "captions.csv"
    table.write_text("\n".join(["photo,said", *lines[1:]]) + "\n")
    given = [*words(folders), "--captions", str(table), "--dry-run"]
    assert cli.main(given) == 2
    assert "--captions: no column of images was found" in (said := capsys.readouterr().err)
    assert "pass --captions-image-column" in said
    assert cli.main([*given, "--captions-image-column", "photo"]) == 2
    assert "pass --captions-text-column" in capsys.readouterr().err
    columns = ["--captions-image-column", "photo", "--captions-text-column", "said"]
    assert cli.main([*given, *columns]) == 0
    assert "align on captions" in capsys.readouterr().out


def test_captions_of_a_known_set_are_read_up_to_a_count(folders, capsys):
    write_captions(folders / "captions")
    (folders / "captions" / "metadata.csv").unlink()
    rows = [
        {"filename": f"captioned-{i:04}.png", "caption": ["a red square"] * 2, "split": "train"} for i in range(60)
    ]
    (folders / "tables").mkdir()
    (folders / "tables" / "rows.json").write_text(json.dumps({"images": rows}))
    given = [
        "--captions",
        str(folders / "tables" / "rows.json"),
        "--captions-preset",
        "flickr30k",
        "--captions-limit",
        "20",
    ]
    folder = ["--captions-image-folder", str(folders / "captions")]
    assert cli.main([*words(folders), *given, *folder, "--dry-run"]) == 0
    assert "captions, train: 16 images, 32 captions (1 distinct)" in capsys.readouterr().out
    assert cli.main([*words(folders), *given, "--dry-run"]) == 2
    line = capsys.readouterr().err
    assert "--captions: " in line
    assert "'image_path' names no file" in line
    assert "or --captions-image-folder where paths start" in line
    assert cli.main([*words(folders), "--captions", "cc3m"]) == 2
    line = capsys.readouterr().err
    assert "--captions: source 'pixparse/cc3m-wds' has millions of rows; pass --captions-limit, how many" in line


def test_balanced_is_for_one_answer_a_row(folders, capsys):
    table = folders / "mine" / "questions.csv"
    table.write_text(table.read_text().replace(",red,", ',"red;warm",'))
    refused = [*words(folders), "--balanced", "--answer-separator", ";", "--targets", "labels"]
    assert cli.main(refused) == 2
    assert "--balanced is for one answer a row; these are labels" in capsys.readouterr().err
    assert not (folders / "features").exists()


def test_balanced_reaches_the_losses_and_is_not_saved(folders, monkeypatch):
    seen = []
    original = OTMergeForQuestionAnswering.answer_loss

    def spy(self, logits, labels):
        seen.append(self.class_weights)
        return original(self, logits, labels)

    monkeypatch.setattr(OTMergeForQuestionAnswering, "answer_loss", spy)
    assert cli.main([*words(folders), "--least-steps", "4", "--balanced"]) == 0
    assert len(seen) >= 4
    assert all(weights is not None and weights.min() < 1 < weights.max() for weights in seen)
    assert "class_weights" not in load_file(folders / "merge" / "model.safetensors")
    assert json.loads((folders / "merge" / "results.json").read_text())["settings"]["balanced"] is True


def test_flags_of_captions_need_captions(folders, capsys):
    assert cli.main([*words(folders), "--captions-text-column", "said"]) == 2
    assert "--captions-text-column says how captions are read; pass --captions too" in capsys.readouterr().err
