"""Sounds with captions: a folder of WAV files and a table, a split of it, and a merge that hears."""

import json
import wave

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset

from otmerge_hf.alignment import align_encoders
from otmerge_hf.data import PairSplit, check_questions, load_pair_splits, load_pairs, load_questions
from otmerge_hf.training import plan_merge, train_merge


COLORS = ("red", "green", "blue")


def tones(folder, count=10):
    """Files of different pitch."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        samples = np.sin(np.arange(1600) * (0.02 + 0.02 * number))
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", None))
            file.writeframes((samples * 30_000).astype("<i2").tobytes())
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


@pytest.fixture
def folder(tmp_path):
    tones(tmp_path / "sounds" / "clips")
    rows = ["file_name,text", *(f"clips/{number}.wav,red {number}" for number in range(10))]
    (tmp_path / "sounds" / "metadata.csv").write_text("\n".join(rows))
    return tmp_path / "sounds"


def test_a_folder_of_sounds_and_a_table(folder):
    splits = load_pair_splits(folder)
    assert {name: len(split.images) for name, split in splits.items()} == {"train": 8, "validation": 1, "test": 1}
    assert str(splits["train"]).startswith("8 sounds, 8 captions (8 distinct)")
    assert splits["validation"].origin == "1 sounds held out of train"
    assert splits["train"].origin.endswith("the rest of its 10 sounds with 10 captions")
    for split in splits.values():
        for row, text in split.pairs.tolist():
            assert split.images[row] == folder / "clips" / f"{split.texts[text].removeprefix('red ')}.wav"


def test_splits_of_a_column(folder):
    lines = [
        json.dumps({"audio": f"{number}.wav", "caption": f"red {number}", "split": "test" if number > 7 else "train"})
        for number in range(10)
    ]
    (folder / "metadata.csv").unlink()
    (folder / "rows.jsonl").write_text("\n".join(lines))
    splits = load_pair_splits(folder, split_column="split")  # found by name below the folder
    assert {name: len(split.images) for name, split in splits.items()} == {"train": 7, "validation": 1, "test": 2}


def test_sounds_inside_a_parquet_file(tmp_path):
    files = [{"bytes": path.read_bytes(), "path": None} for path in sorted(tones(tmp_path / "clips", 7).iterdir())]
    rows = Dataset.from_dict({"audio": files, "text": [f"red {number}" for number in range(7)]})
    rows.cast_column("audio", Audio(decode=False)).to_parquet(tmp_path / "pairs.parquet")
    pairs = load_pairs(tmp_path / "pairs.parquet")
    assert isinstance(pairs.features["image"], Audio)
    assert pairs["group"][:] == list(range(7))


def test_a_folder_without_a_table_is_refused(tmp_path):
    tones(tmp_path / "sounds")
    with pytest.raises(ValueError, match="holds sounds, and no table: expected a table beside them"):
        load_pair_splits(tmp_path / "sounds")


def test_questions_about_sounds(folder):
    (folder / "metadata.csv").unlink()
    rows = [f"{number}.wav,is it high ?,{'yes' if number > 4 else 'no'}" for number in range(10)]
    (folder / "ask.csv").write_text("\n".join(["audio,question,answer", *rows]))
    questions = load_questions(folder)
    assert str(questions.train).startswith("6 rows, 6 sounds, 1 distinct text")
    assert questions.test.origin == "2 of 10 training sounds, held out"
    assert "test: 2 rows, 2 sounds" in str(check_questions(folder))
    found = [file for part in (questions.train, questions.validation, questions.test) for file in part.images]
    assert sorted(file.name for file in found) == [f"{number}.wav" for number in range(10)]
    (folder / "clips" / "3.wav").write_bytes(b"RIFF no sound")
    with pytest.raises(ValueError, match=r"3\.wav' cannot be read as WAV"):
        load_questions(folder)


@pytest.fixture
def encoders(tmp_path, encoder, feature_extractor, tokenizer, encoder_folders):
    encoder("whisper").save_pretrained(tmp_path / "whisper")
    feature_extractor("whisper").save_pretrained(tmp_path / "whisper")
    return str(tmp_path / "whisper"), encoder_folders[1]


def test_a_merge_is_aligned_on_sounds(tmp_path, folder, encoders, encoder_folders):
    rows = torch.arange(10)[:, None].expand(-1, 2)
    files = sorted((folder / "clips").iterdir())
    texts = [*(f"{one} {other}" for one in COLORS for other in COLORS), "yes"]
    split = PairSplit(files, texts, rows)
    splits = dict.fromkeys(["train", "validation", "test"], split)
    options = {"fit": "ridge", "cache_dir": tmp_path / "features"}
    result = align_encoders(*encoders, splits, **options)
    assert "sound -> text" in str(result)
    result.save(tmp_path / "merge")
    assert "sounds" in (tmp_path / "merge" / "README.md").read_text()

    inputs = result.processor(audio=files[:3], return_tensors="pt")
    with torch.no_grad():
        found = result.model.get_context_embeds(**inputs)
    assert found.shape == (3, result.fit.shared_dim_)
    with pytest.raises(ValueError, match="the pairs are of sounds and the context encoder takes images"):
        align_encoders(*encoder_folders, splits, **options)
    rows = [f"{number}.wav,is it high ?,{'yes' if number > 4 else 'no'}" for number in range(10)]
    (folder / "ask.csv").write_text("\n".join(["audio,question,answer", *rows]))
    questions = load_questions(folder / "ask.csv")
    assert "encode 10 sounds and 1 texts" in str(plan_merge(*encoders, questions))
    quick = {"cache_dir": tmp_path / "features", "epochs": 0.1, "least_steps": 2, "progress": False}
    told = str(train_merge(*encoders, questions, tmp_path / "answers", **quick))
    assert "+ mean of the sound" in told
    assert "image" not in told
    with pytest.raises(ValueError, match="the questions are of sounds and the context encoder takes images"):
        train_merge(*encoder_folders, questions, tmp_path / "merge", cache_dir=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="expected an encoder of images or sounds"):
        align_encoders(encoders[1], encoders[1], splits, **options)
