"""Spoken captions: what is said by whom, and that states are computed once."""

import json
import shutil

import numpy as np
import pytest
import torch

from benchmarks.report.speech import markdown
from benchmarks.suites.speech import SUITE
from benchmarks.tasks import speech
from benchmarks.tasks.speech import TESTED, VOICES, Spoken, all_clips, encode_clips, speak


needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture
def data(tmp_path):
    for split, count in (("train", 12), ("validation", 3), ("test", 4)):
        folder = tmp_path / "data" / "flickr8k" / split
        folder.mkdir(parents=True)
        rows = ({"file_name": f"{i}.jpg", "captions": [f"{split} {i} {j}" for j in range(5)]} for i in range(count))
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "data"


def test_a_sentence_and_its_voice_are_in_one_split_alone(data):
    clips = all_clips(data)
    assert [clip.text for clip in clips["train"][:6]] == [f"train {i} {i % 5}" for i in range(6)]
    assert {clip.voice for clip in clips["train"]} == set(VOICES["train"])
    assert [clip.text for clip in clips["test"]] == [clip.text for clip in clips["accent"]]
    apart = [{clip.voice for clip in clips[name]} for name in ("train", "validation", "test", "accent")]
    assert sum(map(len, apart)) == len(set.union(*apart))
    assert TESTED["seen"] in VOICES["train"]


@needs_espeak
def test_a_voice_is_heard_and_another_is_another():
    one, other = (speak(Spoken("two dogs run", voice)) for voice in ("en-us", "en-us+f4"))
    assert one.dtype == np.float32
    assert 0.5 < len(one) / speech.RATE < 3
    assert np.abs(one).max() > 0.1
    assert not np.array_equal(one, other)
    assert np.array_equal(one, speak(Spoken("two dogs run", "en-us")))


@needs_espeak
def test_states_are_those_of_true_positions_and_computed_once(tmp_path, monkeypatch, encoder, feature_extractor):
    monkeypatch.setattr(speech, "SHARD", 2)
    encoder("whisper").save_pretrained(tmp_path / "whisper")
    extractor = feature_extractor("whisper")
    extractor.save_pretrained(tmp_path / "whisper")
    clips = [Spoken(text, "en-us") for text in ("a", "dog", "one two three four five six")]
    found = encode_clips(clips, tmp_path / "whisper", tmp_path / "states")
    assert found.shape == (3, 2, 3, 16)

    heard = extractor([speak(clips[0])], sampling_rate=speech.RATE, return_attention_mask=True, return_tensors="pt")
    true = (int(heard["attention_mask"].sum()) + 1) // 2
    assert true < 25
    with torch.no_grad():
        states = encoder("whisper").encoder(heard["input_features"]).last_hidden_state[0, :true]
    torch.testing.assert_close(found[0, -1, 0].float(), states.mean(0), atol=0.02, rtol=0.02)

    files = sorted((tmp_path / "states").iterdir())
    files[0].unlink()  # as where a computation was killed
    kept = files[1].stat().st_mtime_ns
    assert torch.equal(encode_clips(clips, tmp_path / "whisper", tmp_path / "states"), found)
    assert files[1].stat().st_mtime_ns == kept


def test_what_is_missing_is_named(data, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="espeak-ng is not installed"):
        speak(Spoken("a", "en-us"))


def record(pairs, draw, recall):
    scores = {f"{way}_recall@{k}": recall for way in ("context_to_query", "query_to_context") for k in (1, 5, 10)}
    return {
        "settings": {"pairs": pairs, "draw": draw},
        "machine": {"cpu": "x"},
        "candidates": 1000,
        "voices": {"train": ["a"], "validation": "b", "tested": TESTED},
        "methods": {"mean": {"chosen": "CCA()", "validation": recall, "scores": dict.fromkeys(TESTED, scores)}},
    }


def test_report_has_the_most_pairs_first():
    window = {"settings": {"clips": 300, "window_pairs": 5000}, "clips": 300, "distance": 0.1, "fit": "CCA()"}
    window["recall"] = {"8 s": 0.9, "30 s": 0.8}
    table = markdown([record(500, 0, 0.5), record(500, 1, 0.5), record(5000, 0, 0.9), record(5000, 1, 0.9), window])
    assert "| mean | `CCA()` | 0.9000 [0.9000, 0.9000] |" in table
    assert "| mean | 0.5000 [0.5000, 0.5000] / 0.5000 [0.5000, 0.5000] | 0.9000" in table
    assert "padded to 30 s 0.8000" in table
    assert SUITE.name == "speech"
