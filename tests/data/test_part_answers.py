"""Answers of each part: which column they are in, who may have none, and what is said then."""

import pytest
from datasets import Dataset, DatasetDict
from question_folders import picture, write_csv, write_questions

from otmerge_hf.data import load_questions, load_rows


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def test_another_column_of_a_test_table_is_not_its_answers(tmp_path):
    write_questions(tmp_path, 16, name="train.csv")
    rows = [(f"{i}.png", "is it red?", "easy") for i in range(4)]
    write_csv(tmp_path / "test.csv", rows, ("image", "question", "category"))
    splits = load_questions(tmp_path)
    assert splits.test.answers == [()] * 4
    assert "test.csv has no column 'answer', as train.csv has: its answers are unknown" in splits.notes
    write_csv(tmp_path / "test.csv", rows, ("image", "query", "category"))
    with pytest.raises(
        ValueError, match=r"question_column: test\.csv has no column 'question'; its columns are image"
    ):
        load_questions(tmp_path)


def test_a_preset_knows_other_names(tmp_path):
    train = [{"image": picture(n), "hypothesis": f"h {n}", "gold_label": "ab"[n % 2]} for n in range(12)]
    test = [{"image": picture(n), "sentence": f"h {n}", "label": "ab"[n % 2]} for n in range(12, 16)]
    parts = DatasetDict(train=Dataset.from_list(train), test=Dataset.from_list(test))
    splits = load_questions(parts, preset="snli-ve")
    assert splits.test.answers == [("a",), ("b",)] * 2
    assert splits.test.texts[0] == "h 12"


def test_a_column_that_was_named_must_be_there_for_rows_to_score_too(tmp_path):
    write_questions(tmp_path)
    for named in ({"answer_column": "said"}, {"kind_columns": ["said"]}, {"image_id_column": "said"}):
        with pytest.raises(ValueError, match=rf"{next(iter(named))}: questions\.csv has no column 'said'"):
            load_rows(tmp_path, **named)
