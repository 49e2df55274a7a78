"""The examples in the docstrings of the model run."""

import doctest
import importlib

import pytest


MODULES = ("adapters", "configuration_otmerge", "encoders", "fusers", "modeling_otmerge", "pipeline_otmerge",
           "plans", "processing_otmerge", "validation")  # fmt: skip
WITH_EXAMPLES = {"configuration_otmerge", "modeling_otmerge", "adapters", "fusers", "plans", "processing_otmerge"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"otmerge_hf.model.{name}")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    assert (result.attempted > 0) is (name in WITH_EXAMPLES)
