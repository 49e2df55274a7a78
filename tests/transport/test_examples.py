"""The examples in the docstrings of the transport package run."""

import doctest
import importlib
import pkgutil

import pytest

from otmerge_hf import transport


MODULES = sorted(module.name for module in pkgutil.iter_modules(transport.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"otmerge_hf.transport.{name}"))
    assert result.failed == 0
    assert result.attempted > 0 or name.startswith("_") or name == "geometry"
