"""Which table is for what, when only some of the three are named."""

import pytest
from question_folders import questions, write_csv, write_pictures, write_questions

from otmerge_hf.data import load_questions, load_rows
from otmerge_hf.data.read_questions import read_questions


def wheres(part):
    """Lines of a part's rows, in order."""
    return [int(where.rsplit(" ", 1)[1]) for where in part.where]


def test_naming_the_test_split_changes_nothing_that_is_learnt(tmp_path):
    write_pictures(tmp_path, 20)
    rows = [(f"{i}.png", "what is it?", ["A cat", "a cat"][i % 2], "no") for i in range(16)]
    write_csv(tmp_path / "train.csv", rows, ("image", "question", "label", "answer"))
    write_csv(tmp_path / "test.csv", [(f"{i}.png", "is it?", "A cat", "no") for i in range(16, 20)],
              ("image", "question", "label", "answer"))  # fmt: skip
    for answer, named in (("label", {"answer_column": "label"}), ("answer", {})):
        plain = read_questions(tmp_path, **named)
        asked = read_questions(tmp_path, test_split="test", **named)
        assert list(asked.origins) == list(plain.origins) == ["train", "test"]
        assert asked.columns == plain.columns
        assert asked.columns["train"].answer == answer
        assert asked.holds_classes is plain.holds_classes is (answer == "label")


def test_the_training_table_says_whether_answers_are_classes(tmp_path):
    write_pictures(tmp_path, 20)
    write_csv(tmp_path / "train.csv", [(f"{i}.png", ["Cat", "cat"][i % 2]) for i in range(16)], ("image", "label"))
    write_csv(tmp_path / "test.csv", [(f"{i}.png", "Cat", "x") for i in range(16, 20)], ("image", "label", "answer"))
    splits = load_questions(tmp_path, test_split="test.csv")
    assert set(splits.answers.names) == {"Cat", "cat"}
    assert splits.test.answers == [("Cat",)] * 4


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_slice_of_the_only_table_is_what_was_asked_for(tmp_path, role):
    write_questions(tmp_path, 20)
    splits = load_questions(tmp_path, **{f"{role}_split": "questions.csv[80%:]"})
    assert wheres(getattr(splits, role)) == list(range(34, 42))
    rest = splits.train.where + (splits.test if role == "validation" else splits.validation).where
    assert sorted(int(where.rsplit(" ", 1)[1]) for where in rest) == list(range(2, 34))


def test_slices_for_both_leave_the_rest_for_training(tmp_path):
    write_questions(tmp_path, 20)
    splits = load_questions(tmp_path, validation_split="questions[:10]", test_split="questions[30:]")
    assert [wheres(part) for part in (splits.train, splits.validation, splits.test)] == [
        list(range(12, 32)), list(range(2, 12)), list(range(32, 42))
    ]  # fmt: skip


def test_a_slice_of_the_training_table_beside_another(tmp_path):
    write_questions(tmp_path, 20, name="train.csv")
    write_csv(tmp_path / "val.csv", questions(3))
    splits = load_questions(tmp_path, test_split="train[30:]")
    assert [wheres(part) for part in (splits.train, splits.test)] == [list(range(2, 32)), list(range(32, 42))]
    assert splits.validation.origin == "val.csv"


def test_a_slice_beside_a_table_for_something_else(tmp_path):
    write_questions(tmp_path, 20, name="train.csv")
    write_csv(tmp_path / "notes.csv", [(1, 2)], ("id", "remark"))
    splits = load_questions(tmp_path, test_split="train[30:]")
    assert sum(map(len, (splits.train, splits.validation))) == 30
    (tmp_path / "train.csv").rename(tmp_path / "questions.csv")
    (tmp_path / "notes.csv").rename(tmp_path / "test.csv")
    splits = load_questions(tmp_path, test_split="questions[30:]")
    assert sum(map(len, (splits.train, splits.validation))) == 30


def test_a_slice_of_what_a_preset_trains_on(tmp_path):
    write_pictures(tmp_path, 20)
    rows = [(f"{i}.png", "what is it", "lamp" if i % 2 else "chair") for i in range(20)]
    for name in ("questions_train.csv", "questions_test.csv", "questions_reduced_train.csv"):
        write_csv(tmp_path / name, rows, ("image", "question", "answer"))
    splits = load_questions(tmp_path, preset="daquar", test_split="questions_train[15:]")
    assert wheres(splits.test) == list(range(17, 22))
    assert sorted(wheres(splits.train) + wheres(splits.validation)) == list(range(2, 17))
    assert load_questions(tmp_path, preset="daquar").test.origin == "questions_test.csv"


def test_a_bad_row_is_told_with_the_slice_that_it_lies_in(tmp_path):
    rows = questions(20)
    rows[4], rows[34] = rows[4][:2], rows[34][:2]
    write_pictures(tmp_path, 20)
    write_csv(tmp_path / "questions.csv", rows)
    read = read_questions(tmp_path, test_split="questions[28:]")
    assert [bad.partition(":")[0] for bad in read.bad] == ["questions.csv, line 6", "questions.csv, line 36"]


def test_the_whole_of_the_only_table_for_test(tmp_path):
    write_questions(tmp_path)
    with pytest.raises(ValueError, match=r"there is nothing to train on: there are questions\.csv; pass train_split"):
        load_questions(tmp_path, test_split="questions.csv")
    assert len(load_rows(tmp_path, part="test", test_split="questions.csv")) == 24
    assert len(load_rows(tmp_path, test_split="questions.csv[:50%]")) == 24
    assert len(load_rows(tmp_path, part="test", test_split="questions.csv[:50%]")) == 12
