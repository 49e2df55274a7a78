"""Answers of each part: which column they are in, who may have none, and what is said then."""

import json

import pytest
from datasets import Dataset, DatasetDict
from question_folders import check, picture, questions, write_csv, write_pictures, write_questions

from otmerge_hf.data import BadRowsError, check_questions, load_questions, load_rows


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
    with pytest.raises(ValueError, match=r"question_column: test\.csv has no column 'question'; its columns"):
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


VOTES = ["red"] * 6 + ["blue"] * 4


def write_votes(folder, name, counts, first=0):
    """A table in which each row has that many people's answers."""
    write_pictures(folder, len(counts), first)
    rows = [
        {"image": f"{i}.png", "question": "what?", "answers": VOTES[i % 2 :][:count]}
        for i, count in enumerate(counts, first)
    ]
    (folder / name).write_text("\n".join(map(json.dumps, rows)))


def test_too_few_votes_are_bad_rows_of_any_part(tmp_path):
    write_votes(tmp_path, "train.jsonl", [9, 9, 3, 0, *[9] * 12])
    write_votes(tmp_path, "val.jsonl", [9, 2, 9, 9], 16)
    write_votes(tmp_path, "test.jsonl", [9, 0, 1, 9], 20)
    with pytest.raises(BadRowsError) as error:
        load_questions(tmp_path)
    assert error.value.rows == [
        "train.jsonl, line 3: 3 answers in column 'answers'; votes need 4 or more",
        "train.jsonl, line 4: 0 answers in column 'answers'; votes need 4 or more",
        "val.jsonl, line 2: 2 answers in column 'answers'; votes need 4 or more",
        "test.jsonl, line 3: 1 answer in column 'answers'; votes need 4 or more",
    ]
    splits = load_questions(tmp_path, skip_bad=True)
    assert splits.answers.targets == "votes"
    assert [len(row) for row in splits.test.answers] == [9, 0, 9]
    assert "test.jsonl: 1 of 3 rows of test has no answer and is not scored" in splits.notes
    report = check_questions(tmp_path)
    assert report.problem == ""
    assert "Best accuracy that these answers allow: validation 1.000, test 1.000" in str(report)


def test_the_training_table_says_what_answers_are(tmp_path):
    write_questions(tmp_path, 16, name="train.csv")
    write_votes(tmp_path, "test.jsonl", [9] * 4, 16)
    records = [line.replace('"answers"', '"answer"') for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    (tmp_path / "test.jsonl").write_text("\n".join(records))
    splits = load_questions(tmp_path)
    assert splits.answers.targets == "single"
    assert [len(row) for row in splits.test.answers] == [9] * 4


def test_a_test_part_of_votes_without_any_answer(tmp_path, capsys):
    write_votes(tmp_path, "train.jsonl", [9] * 16)
    write_votes(tmp_path, "test.jsonl", [0] * 4, 16)
    assert load_questions(tmp_path).test.answers == [()] * 4
    code, out, _ = check(capsys, tmp_path)
    assert code == 0
    assert "test.jsonl: no row of test has an answer; it cannot be scored" in out


@pytest.mark.parametrize("column", [True, False])
def test_validation_without_answers_is_refused(tmp_path, capsys, column):
    write_questions(tmp_path, 16, name="train.csv")
    rows = [(name, text, "") if column else (name, text) for name, text, _ in questions(4)]
    write_csv(tmp_path / "val.csv", rows, ("image", "question", "answer")[: 3 if column else 2])
    with pytest.raises(ValueError, match=r"^validation: no row of val\.csv has an answer.*; pass another valid"):
        load_questions(tmp_path)
    code, out, lines = check(capsys, tmp_path)
    assert (code, out) == (2, "")
    assert lines[0].startswith("otmerge check: error: validation: no row of val.csv has an answer")
    assert lines[0].endswith("; pass another --validation-split")
    assert load_questions(tmp_path, validation_split="train[90%:]").validation.answers[0]


def test_training_without_answers_is_refused(tmp_path):
    write_pictures(tmp_path, 16)
    write_csv(tmp_path / "train.csv", [(name, text, "") for name, text, _ in questions(16)])
    with pytest.raises(ValueError, match=r"^train: no row of train\.csv has an answer \(column 'answer'\); pass "):
        load_questions(tmp_path)


def test_several_labels_in_a_column_of_that_name_may_be_none(tmp_path):
    write_pictures(tmp_path, 24)
    records = [{"image": f"{i}.png", "labels": ["cat", "dog"][: i % 3]} for i in range(24)]
    (tmp_path / "rows.json").write_text(json.dumps(records))
    splits = load_questions(tmp_path)
    assert splits.answers.targets == "labels"
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 24


def test_rows_to_answer_may_have_answers_or_not(tmp_path):
    write_pictures(tmp_path, 3)
    write_csv(tmp_path / "ask.csv", [("0.png", "is it?", "yes"), ("1.png", "is it?", ""), ("2.png", "is it?", " ")])
    assert load_rows(tmp_path / "ask.csv").answers == [("yes",), (), ()]
    write_votes(tmp_path, "votes.jsonl", [9, 0, 9])
    assert [len(row) for row in load_rows(tmp_path / "votes.jsonl").answers] == [9, 0, 9]


def test_rows_to_answer_name_no_argument_that_a_command_lacks(tmp_path):
    write_pictures(tmp_path, 1)
    write_csv(tmp_path / "ask.csv", [("0.png", "is it?"), ("x.png", "is it?")], ("image", "question"))
    with pytest.raises(BadRowsError) as error:
        load_rows(tmp_path / "ask.csv")
    assert str(error.value) == f"1 bad row: ask.csv, line 3: no image 'x.png' in {tmp_path}"
    assert len(load_rows(tmp_path / "ask.csv", skip_bad=True)) == 1
