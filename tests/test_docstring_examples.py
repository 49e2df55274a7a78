"""Every `>>>` of the package and of the laboratory runs."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
import torch


ROOT = Path(__file__).parents[1]
FILES = [path for folder in ("src/otmerge_hf", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
WITH_EXAMPLES = [path for path in FILES if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("src.").removesuffix(".__init__")
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
