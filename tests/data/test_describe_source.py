"""The name of the data that a run records: the Hub's, or a folder's own without the path to it."""

import pytest
from datasets import Dataset

from otmerge_hf.data import load_questions
from otmerge_hf.data.sources import describe_source


def test_names(tmp_path):
    (tmp_path / "pictures").mkdir()
    files = [tmp_path / "pictures" / name for name in ("a.csv", "b.csv")]
    assert describe_source(tmp_path / "pictures") == {"name": "pictures", "hub": None}
    assert describe_source(str(tmp_path / "pictures")) == {"name": "pictures", "hub": None}
    assert describe_source(files) == {"name": "a.csv, b.csv", "hub": None}
    assert describe_source("lmms-lab/VQAv2") == {"name": "lmms-lab/VQAv2", "hub": "lmms-lab/VQAv2"}
    assert describe_source("easy-vqa", on_hub=False) == {"name": "easy-vqa", "hub": None}
    assert describe_source(Dataset.from_dict({"text": ["a"]})) == {"name": "rows in memory", "hub": None}


def test_a_packages_data_are_not_on_the_hub():
    pytest.importorskip("easy_vqa")
    questions = load_questions("easy-vqa", train_split="train[:400]", test_split="test[:10]")
    assert questions.source == {"name": "easy-vqa", "hub": None}
