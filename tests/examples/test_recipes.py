"""Recipes are read by the scripts that they name, and the list of examples has them all."""

import re
import sys
from pathlib import Path

import pytest
from transformers import TrainingArguments

from otmerge_hf.data import PRESETS


EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted((EXAMPLES / "recipes").iterdir())


def parse(load, monkeypatch, path):
    """What the script gives to its `run`."""
    script, named = re.match(r"# python examples/(\w+)\.py examples/recipes/(\S+)\n", path.read_text()).groups()
    assert named == path.name
    module, given = load(script), []
    monkeypatch.setattr(sys, "argv", [script, str(path)])
    monkeypatch.setattr(module, "run", lambda *arguments: given.extend(arguments))
    module.main()
    return given


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_by_its_script(load, monkeypatch, path):
    for group in parse(load, monkeypatch, path):
        if isinstance(group, TrainingArguments):
            assert isinstance(group.learning_rate, float), "YAML reads 1e-3 as text; write 1.0e-3"
            assert group.do_train
            assert group.do_eval
            assert not group.push_to_hub


def test_what_a_recipe_starts_from_is_what_another_makes(load, monkeypatch):
    groups = {path.stem: parse(load, monkeypatch, path) for path in RECIPES}
    made = {getattr(group, "output_dir", None) for found in groups.values() for group in found}
    for found in groups.values():
        start = getattr(found[0], "model_name_or_path", None)
        assert start is None or start in made
    hubs = {name for preset in PRESETS.values() for name in preset.hub}
    for name in ("vit-bert-vqav2", "resnet50-bert-scienceqa", "vit-bert-snli-ve"):
        assert groups[name][1].data in hubs, "columns are known by name"


def test_the_list_of_examples_is_whole():
    listed = (EXAMPLES / "README.md").read_text()
    for path in [*EXAMPLES.glob("*.py"), *RECIPES]:
        assert path.relative_to(EXAMPLES).as_posix() in listed, path.name


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_is_short(path):
    assert len(path.read_text().splitlines()) <= {"merge_easy_vqa": 120, "serve": 215}.get(path.stem, 150)
