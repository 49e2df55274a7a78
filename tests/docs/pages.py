"""Blocks of a page, run in order: Python in one namespace, shell in the same folder."""

import os
import re
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def blocks(text):
    """`(language, code)` of every fenced block; the language is "" where none is named."""
    return BLOCK.findall(text)


def run_blocks(text, names=None):
    """Run the blocks that are `python` or `sh` in the working folder; other blocks are to be read."""
    names = {"__name__": "page"} if names is None else names
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    for language, code in blocks(text):
        if language == "python":
            exec(compile(code, "block", "exec"), names)
        elif language == "sh":
            done = subprocess.run(["bash", "-ec", code], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{code}\n{done.stderr[-2000:]}"
    return names
