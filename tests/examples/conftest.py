"""Example scripts, run in this process on tiny encoders: `run("run_vqa", data=...)` is a call of the command line."""

import importlib.util
import logging
import sys
from pathlib import Path

import pytest


EXAMPLES = Path(__file__).parents[2] / "examples"


def load_script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where data classes look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load():
    """`load(name)`: the module of an example, imported once."""
    modules = {}
    return lambda name: modules[name] if name in modules else modules.setdefault(name, load_script(name))


@pytest.fixture
def call(load, monkeypatch, tmp_path):
    """`call(name, *words)`: run an example with these words behind its name, quick and on the CPU."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    levels = {name: logging.getLogger(name).level for name in ("", "otmerge_hf")}

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        load(name).main()

    yield run
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def train(call, encoder_folders, tmp_path):
    """`train(name, output, **options)`: run a script that trains tiny encoders into a folder, which is returned."""

    def run(name, output, start=None, **options):
        context, query = encoder_folders
        chosen = {"model_name_or_path": start} if start else {"context": context, "query": query}
        options = {
            **chosen, "output_dir": tmp_path / output, "cache_dir": tmp_path / "features", "disable_tqdm": True,
            "use_cpu": True, "dataloader_pin_memory": False, "per_device_train_batch_size": 32, "save_strategy": "no",
            "per_device_eval_batch_size": 64, "learning_rate": 0.01, **options,
        }  # fmt: skip
        call(name, *(word for option, value in options.items() for word in (f"--{option}", value)))
        return tmp_path / output

    return run


@pytest.fixture
def error(capsys):
    """`error(function, ...)`: the line that a script ends with."""

    def find(function, *args, **options):
        with pytest.raises(SystemExit) as raised:
            function(*args, **options)
        return str(raised.value)

    return find
