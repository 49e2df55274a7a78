"""Saved merges of the suite `zoo`, loaded with `trust_remote_code` by a process that cannot find the package."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


#: First lines of a program in which nothing of the package can be found, be it installed or on the path.
HIDE_PACKAGE = """
import os, sys
class Hidden:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "otmerge_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden)
try:
    import otmerge_hf
except ModuleNotFoundError:
    assert "otmerge_hf" not in sys.modules
else:
    raise AssertionError("the package was found")
"""
_SCRIPT = (
    HIDE_PACKAGE
    + """
import json, traceback
import torch
from transformers import AutoModelForVisualQuestionAnswering

found = {}
for name, work in json.loads(sys.argv[1]).items():
    try:
        given = torch.load(os.path.join(work, "given.pt"))
        model = AutoModelForVisualQuestionAnswering.from_pretrained(
            os.path.join(work, "merge"), trust_remote_code=True
        ).eval()
        with torch.no_grad():
            apart = (model(**given["batch"]).logits - given["logits"]).abs().max().item()
        found[name] = "ok" if apart == 0 else f"differs: logits by {apart:.1e}"
    except Exception as error:
        found[name] = f"traceback: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
assert "otmerge_hf" not in sys.modules
print("FOUND" + json.dumps(found))
"""
)


def load_remotely(works: Mapping[str, Path], scratch: Path) -> dict[str, str]:
    """Compare what each merge answers there, to the bit, with what it answered here.

    Args:
        works: Name -> the folder of [`check_pair`](zoo_pair), with `merge` and `given.pt`.
        scratch: Where the process keeps the code that it copies.
    """
    if not works:
        return {}
    script = scratch / "remote.py"
    script.write_text(_SCRIPT)
    caches = {"HF_MODULES_CACHE": str(scratch / "modules"), "HF_HOME": str(scratch / "home")}
    done = subprocess.run(
        [sys.executable, str(script), json.dumps({name: str(work) for name, work in works.items()})],
        env=os.environ | caches | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    _, marked, answer = done.stdout.partition("FOUND")
    if not marked:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return dict.fromkeys(works, f"traceback: {reason}")
    found: dict[str, str] = json.loads(answer)
    return found
