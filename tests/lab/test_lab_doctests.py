"""Every `>>>` of the laboratory runs."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
WITH_EXAMPLES = [path for path in sorted((ROOT / "benchmarks").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
