"""The main job's script on a few hundred questions, then its saved model asked from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


def run(*arguments, cwd=None):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, text=True, capture_output=True
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    pytest.importorskip("easy_vqa")
    pytest.importorskip("efficientnet_lite_pytorch")
    folder = tmp_path_factory.mktemp("demo")
    script = ROOT / "examples" / "merge_easy_vqa.py"
    options = ["--max_questions", 300, "--cache_dir", folder / "features", "--output_dir", folder / "model"]
    results = [run(script, *options) for _ in range(2)]
    for result in results:
        assert result.returncode == 0, result.stderr[-2000:]
    return folder, results


def test_writes_model_table_and_gallery(demo):
    folder, (first, _) = demo
    written = json.loads((folder / "model" / "results.json").read_text())
    assert list(written["rows"]) == ["most frequent answer", "concatenation", "merged"]
    assert all(0.2 < row["accuracy"] <= 1 for row in written["rows"].values())
    assert (folder / "model" / "gallery.png").read_bytes()[:4] == b"\x89PNG"
    assert "test accuracy" in first.stdout
    card = (folder / "model" / "README.md").read_text()
    assert f"| merged | {written['rows']['merged']['accuracy']:.4f} |" in card
    assert "training questions 300, image-statement pairs " in card
    assert "sentence-transformers/all-MiniLM-L6-v2" in card
    assert not list((folder / "model").glob("*.bin"))


def test_second_run_reuses_the_features_and_says_so(demo):
    folder, (first, second) = demo
    assert "Reused the features" not in first.stdout
    assert "Reused the features" in second.stdout
    assert json.loads((folder / "model" / "results.json").read_text())["features_reused"] is True


def test_ask_prints_answers_with_scores(demo):
    from otmerge_hf.data import image_paths

    folder, _ = demo
    image = image_paths("test")[0]
    asked = ["--model", folder / "model", "--question", "what color is the shape?"]
    result = run(ROOT / "examples" / "ask.py", *asked, "--image", image)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [line.split() for line in result.stdout.strip().splitlines()]
    assert len(lines) == 3
    scores = [float(score) for score, _ in lines]
    assert scores == sorted(scores, reverse=True)


def test_ask_says_what_is_wrong_with_a_missing_image(demo):
    folder, _ = demo
    asked = ["--model", folder / "model", "--question", "what color is the shape?", "--image", "nowhere.png"]
    result = run(ROOT / "examples" / "ask.py", *asked)
    assert result.returncode != 0
    assert "nowhere.png" in result.stderr.splitlines()[-1]
