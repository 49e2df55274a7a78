"""The suite `int8`: what it finds of a merge is what the merge scores."""

import json
from argparse import ArgumentParser

import numpy as np
import pytest
from PIL import Image

from benchmarks.runner.cell import Place
from benchmarks.suites.int8 import SUITE
from otmerge_hf.analysis import evaluate_merge
from otmerge_hf.data import load_questions


def cells(*words):
    parser = ArgumentParser()
    SUITE.add_arguments(parser)
    return SUITE.cells(parser.parse_args([str(word) for word in words]))


@pytest.mark.slow
def test_accuracy_is_the_merges_own(merge, processor, tmp_path):
    pytest.importorskip("onnxruntime")
    data, folder, random = tmp_path / "asked", tmp_path / "mine", np.random.default_rng(0)
    data.mkdir()
    lines = ["image,question,answer"]
    for row in range(40):
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(data / f"{row}.png")
        question = ("what color is the shape ?", "is there a red shape ?", "green")[row % 3]
        lines.append(f"{row}.png,{question},{('red', 'green', 'blue')[row % 3]}")
    (data / "questions.csv").write_text("\n".join(lines))
    model = merge()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps({"settings": {"command": "otmerge train ..."}}))

    (cell,) = cells("--merge", folder, "--data", data)
    assert cell.choices == {"data": "asked", "trained_by": "otmerge train ...", "splits": {}}
    found = SUITE.measure(cell, Place(tmp_path, tmp_path))
    expected = evaluate_merge(model, processor, load_questions(data).test, cache_dir=tmp_path / "features")
    assert found["float32"]["accuracy"] == pytest.approx(expected.score)
    assert 0.5 < found["same_answer"] <= 1
    (table,) = SUITE.report([found | {"settings": cell.settings}], tmp_path)
    assert f"| {found['float32']['accuracy']:.4f} |" in table.read_text()


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`merge` is .*; expected a folder that `otmerge train` wrote"):
        cells("--merge", tmp_path)
