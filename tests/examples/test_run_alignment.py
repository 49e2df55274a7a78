"""`examples/run_alignment.py` and `run_retrieval.py` with tiny encoders, on columns of Hub data sets."""

import io
import json
import random
import shutil
import tarfile

import pytest
import torch
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel


COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
REGIONS = {"circle": (0, 0, 16, 16), "square": (16, 0, 32, 16), "triangle": (0, 16, 32, 31)}


def rows(count, seed):
    """Pictures of three coloured regions with two captions each, in the columns of a Flickr30k."""
    draw = random.Random(seed)
    made = []
    for row in range(count):
        image, words = Image.new("RGB", (32, 32), (255, 255, 255 - row)), []
        for shape, box in REGIONS.items():
            color = draw.choice(list(COLORS))
            image.paste(COLORS[color], box)
            words.append(f"{color} {shape}")
        captions = [" ".join(words), " ".join(words[::-1])]
        made.append({"image": image, "caption": captions, "img_id": str(row), "filename": f"{row}.jpg"})
    return made


@pytest.fixture
def flickr(tmp_path):
    (tmp_path / "flickr").mkdir()
    for seed, (split, count) in enumerate({"train": 60, "validation": 20, "test": 20}.items()):
        Dataset.from_list(rows(count, seed)).to_parquet(tmp_path / "flickr" / f"{split}.parquet")
    return tmp_path / "flickr"


def read(path):
    return json.loads(path.read_text())


def test_the_closed_form_is_saved_scored_and_searched(train, call, flickr, tmp_path, capsys):
    folder = train("run_alignment", "aligned", data=flickr, fit="cca", do_eval=True)
    scores = read(folder / "eval_results.json")
    assert scores["eval_mean_recall@1"] == read(folder / "results.json")["test"]["mean_recall@1"] > 0.4
    assert read(folder / "results.json")["refitted"], "nothing is trained: validation helps the fit"
    shared = ["--model_name_or_path", folder, "--data", flickr, "--cache_dir", tmp_path / "features"]
    caption = rows(20, 2)[7]["caption"][0]
    call("run_retrieval", *shared, "--output_dir", folder / "found", "--top_k", 3, "--search", caption)
    found = read(folder / "found" / "retrieval.json")
    assert {name: found[name] for name in ("images", "pairs")} == {"images": 20, "pairs": 40}
    for name in ("context_to_query_recall@1", "query_to_context_recall@5", "context_to_query_median_rank"):
        assert found[name] == pytest.approx(scores[f"eval_{name}"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("text -> image") for line in lines)
    assert lines[-4] == caption
    assert all(line.split()[1] == "image" for line in lines[-3:])
    assert "image 7 of test" in "".join(lines[-3:])


def test_loss_terms_train_on_from_the_fit_and_resume(train, flickr):
    terms = "contrastive klot=0.1 sinkhorn=0.1 variance=.1"
    options = {"data": flickr, "fit": "cca", "shared_dim": 8, "loss_terms": terms, "learning_rate": 1e-3}
    options |= {"do_train": True, "do_eval": True, "max_steps": 8, "save_strategy": "steps", "save_steps": 4}
    folder = train("run_alignment", "trained", **options, eval_strategy="steps", eval_steps=4)
    straight = load_file(folder / "model.safetensors")
    assert not read(folder / "results.json")["refitted"], "validation stays a judge of the training"
    log = read(folder / "trainer_state.json")["log_history"]
    assert {"eval_contrastive", "eval_klot", "eval_sinkhorn", "eval_variance"} <= set(log[0])
    assert log[1]["eval_loss"] < log[0]["eval_loss"]
    kept = folder / "checkpoint-4" / "model.safetensors"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(folder / "checkpoint-8")
    train("run_alignment", "trained", **options)
    assert kept.stat().st_mtime_ns == before
    again = load_file(folder / "model.safetensors")
    assert all(torch.allclose(value, again[name], atol=1e-6) for name, value in straight.items())


def test_questions_start_from_the_aligned_adapters(train, flickr, tmp_path):
    aligned = train("run_alignment", "aligned", data=flickr, fit="cca", shared_dim=8)
    made = [{"image": row["image"], "question": "is there a red circle ?", "answer": row["caption"][0].split()[0]}
            for row in rows(30, 5)]  # fmt: skip
    Dataset.from_list(made).to_parquet(tmp_path / "questions.parquet")
    options = {"data": tmp_path / "questions.parquet", "do_train": True, "max_steps": 2, "learning_rate": 0.0}
    folder = train("run_vqa", "answering", start=aligned, **options)
    before, after = AutoModel.from_pretrained(aligned), AutoModel.from_pretrained(folder)
    for side in ("context", "query"):
        for part in ("adapter", "standardizer"):
            own = getattr(after, f"{side}_{part}").state_dict()
            assert own
            for name, value in getattr(before, f"{side}_{part}").state_dict().items():
                assert torch.equal(own[name], value), (side, part, name)


def test_some_of_the_files_of_a_webdataset(train, tmp_path, capsys):
    (tmp_path / "cc3m").mkdir()
    for shard in range(2):
        with tarfile.open(tmp_path / "cc3m" / f"cc3m-train-000{shard}.tar", "w") as archive:
            for place, row in enumerate(rows(20, shard)):
                pixels = io.BytesIO()
                row["image"].save(pixels, "PNG")
                parts = {"png": pixels.getvalue(), "txt": row["caption"][0].encode(), "json": b"{}"}
                for kind, data in parts.items():
                    about = tarfile.TarInfo(f"{shard}{place:08}.{kind}")
                    about.size = len(data)
                    archive.addfile(about, io.BytesIO(data))
    train("run_alignment", "aligned", data=tmp_path / "cc3m", data_files="cc3m-train-000[1-3].tar", fit="procrustes")
    assert "train: 16 images" in capsys.readouterr().out


def test_mistakes_are_one_line(train, call, error, flickr, tmp_path):
    assert "error: --data is missing" in error(train, "run_alignment", "aligned")
    for terms in ("nothing", "mmd=much"):
        line = error(train, "run_alignment", "aligned", data=flickr, loss_terms=terms)
        assert f"--loss_terms has {terms!r}" in line
    assert "fit must be one of" in error(train, "run_alignment", "aligned", data=flickr, fit="best")
    assert not (tmp_path / "features").exists(), "all of this is said before any work"
    shared = ["--model_name_or_path", tmp_path / "nowhere", "--data", flickr]
    assert "nowhere" in error(call, "run_retrieval", *shared)
    assert "--part is 'dev'" in error(call, "run_retrieval", *shared, "--part", "dev")
    assert "--top_k is 0" in error(call, "run_retrieval", *shared, "--top_k", 0)
    assert "--data is missing" in error(call, "run_retrieval", *shared[:2])
