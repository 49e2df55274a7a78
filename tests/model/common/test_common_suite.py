"""transformers' `ModelTesterMixin` and `ConfigTester`, run against both models in a process of their own.

Every failure is mended, or stands in known_failures.toml with its reason.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from source import unpack

import otmerge_hf


HERE = Path(__file__).parent
KNOWN = {
    f"{group}::{test}": reason
    for group, tests in tomllib.loads((HERE / "known_failures.toml").read_text()).items()
    for test, reason in tests.items()
}
# What is quick and says most: the configuration, and what a model returns, keeps and gives back.
QUICK = "Config or hidden_states_output or attention_outputs or outputs_equivalence or test_save_load"


def outcomes(folder: Path, choice: str = "") -> dict[str, str]:
    """How each of the tests that `choice` names (pytest's `-k`) ended: passed, failed or skipped."""
    unpack(folder)
    for name in ("model_testers.py", "recorder.py"):
        shutil.copyfile(HERE / name, folder / name)
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), str(Path(otmerge_hf.__file__).parents[1])]),
        "RECORD": str(folder / "outcomes.json"),
        "HF_HUB_OFFLINE": "1",
    }
    options = ["-q", "-c", "pytest.ini", "-p", "recorder", "-p", "no:cacheprovider", "-W", "ignore", "--tb=short"]
    command = [sys.executable, "-m", "pytest", *options, "-k", choice, "model_testers.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]  # 1: some tests failed
    (folder / "output.txt").write_text(done.stdout)
    return json.loads((folder / "outcomes.json").read_text())


def check(found: dict[str, str], at_least: int, output: Path) -> None:
    """Failures are those that are known, none more and none fewer; and so many tests passed."""
    failed = {test for test, outcome in found.items() if outcome == "failed"}
    new = sorted(failed - set(KNOWN))
    assert not new, f"{new} fail: mend them, or give the reason in known_failures.toml\n{output.read_text()[-5000:]}"
    mended = sorted(test for test in set(KNOWN) & set(found) if test not in failed)
    assert not mended, f"{mended} no longer fail: take them out of known_failures.toml"
    assert list(found.values()).count("passed") >= at_least


def test_the_list_is_strict(tmp_path):
    (tmp_path / "output.txt").touch()
    known = next(iter(KNOWN))
    check({known: "failed", "New::test": "passed"}, 1, tmp_path / "output.txt")
    with pytest.raises(AssertionError, match="mend them, or give the reason"):
        check({known: "failed", "New::test": "failed"}, 0, tmp_path / "output.txt")
    with pytest.raises(AssertionError, match=f"{known}'. no longer fail: take them out"):
        check({known: "passed"}, 1, tmp_path / "output.txt")
    with pytest.raises(AssertionError):  # nothing ran
        check({known: "failed", "New::test": "skipped"}, 1, tmp_path / "output.txt")


def test_the_quick_part(tmp_path):
    check(outcomes(tmp_path, QUICK), 16, tmp_path / "output.txt")


@pytest.mark.slow
def test_the_whole_suite(tmp_path):
    found = outcomes(tmp_path)
    check(found, 175, tmp_path / "output.txt")
    assert set(KNOWN) <= set(found)
