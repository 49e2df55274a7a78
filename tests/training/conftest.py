import functools
import gc

import pytest
import torch
from tiny_training import TinyFeatures, build_trainer, tiny_config

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel


@pytest.fixture(scope="session", autouse=True)
def _quick_collections():
    """Trainer collects garbage whenever it starts; the thousands of imported modules need not be looked at again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def make_model():
    def make(answers=None, seed=0, **kwargs):
        torch.manual_seed(seed)
        if answers is None:
            return OTMergeModel(tiny_config(**kwargs))
        return OTMergeForQuestionAnswering(tiny_config(num_labels=answers, **kwargs))

    return make


@pytest.fixture(scope="session")
def features():
    return TinyFeatures


@pytest.fixture
def make_trainer(tmp_path):
    return functools.partial(build_trainer, tmp_path / "run")


@pytest.fixture(scope="module")
def make_module_trainer(tmp_path_factory):
    return functools.partial(build_trainer, tmp_path_factory.mktemp("module") / "run")


@pytest.fixture(scope="session")
def logs_of():
    def logs(trainer, key):
        """Values of one key over the steps of a training."""
        return [entry[key] for entry in trainer.state.log_history if key in entry]

    return logs
