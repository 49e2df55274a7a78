"""What a command says and shows is the process's: put back after each test, or other tests would hear of it."""

import logging

import datasets
import pytest
from transformers.utils import logging as transformers_logging


LOGGERS = ("otmerge_hf.features", "otmerge_hf.training", "huggingface_hub.repocard")


@pytest.fixture(autouse=True)
def loud_as_before():
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    transformers_logging.set_verbosity(verbosity)
    if bars:
        transformers_logging.enable_progress_bar()
    datasets.enable_progress_bars()
