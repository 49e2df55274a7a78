"""Cells of an answer column: what is one answer, and what is none."""

import json

import pytest
from question_folders import check, write_csv, write_pictures

from otmerge_hf.data import load_questions
from otmerge_hf.data.question_answers import answers_of


DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize("cell", [" b ", "b", [" b"], {"answer": "b "}, '[" b "]', "\tb"])
def test_spaces_around_an_answer_are_no_part_of_it(cell):
    assert answers_of(cell) == ("b",)
    assert answers_of("a | b ", "|") == ("a", "b")


def test_classes_of_a_csv_file_are_one_with_spaces_around_them(tmp_path):
    write_pictures(tmp_path, 12)
    write_csv(tmp_path / "rows.csv", [(f"{i}.png", ["a", " b ", "b"][i % 3]) for i in range(12)], ("image", "label"))
    assert load_questions(tmp_path).answers.names == ["b", "a"]


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (float("inf"), "an infinite number"), (float("-inf"), "an infinite number"), ("[1e999]", "an infinite number"),
        (DEEP, "a list too deeply nested"), ("[" + '{"answer": ' * 100 + "1" + "}" * 100 + "]", "too deeply nested"),
        ("[1, " + DEEP + "]", "a list too deeply nested"), (nested(3000), "a list too deeply nested"),
    ],
)  # fmt: skip
def test_what_is_no_answer(cell, said):
    with pytest.raises(ValueError, match=f"^the answer is .*{said}; expected text, a number, or a list of them"):
        answers_of(cell)


def test_many_brackets_side_by_side_are_no_nesting():
    assert answers_of(json.dumps([["a"]] * 100)) == ("a",) * 100


def test_such_cells_are_bad_rows(tmp_path, capsys):
    write_pictures(tmp_path, 16)
    rows = [(f"{i}.png", "is it?", "yes" if i % 2 else "no") for i in range(16)]
    rows[3] = (*rows[3][:2], DEEP)
    write_csv(tmp_path / "rows.csv", rows)
    code, out, _ = check(capsys, tmp_path)
    assert code == 1
    assert "Bad rows: 1\n  rows.csv, line 5: the answer is a list too deeply nested" in out
    (tmp_path / "rows.csv").unlink()
    lines = [json.dumps(dict(zip(("image", "question", "answer"), row, strict=True))) for row in rows]
    lines[3] = lines[3].replace(f'"{DEEP}"', "1e999")
    lines[5] = lines[5].replace('"yes"', "[" * 100000 + "]" * 100000)
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    code, out, _ = check(capsys, tmp_path)
    assert code == 1
    assert "rows.jsonl, line 6: no JSON: too deeply nested" in out
    assert "rows.jsonl, line 4: the answer is an infinite number" in out


def test_a_class_that_means_none_elsewhere_is_named(tmp_path):
    write_pictures(tmp_path, 16)
    rows = [{"image": f"{i}.png", "label": -1 if i < 3 else i % 2} for i in range(16)]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    splits = load_questions(tmp_path)
    said = "train.json: 3 rows of train with the class -1 (column 'label'), which often stands for none"
    assert [note for note in splits.notes if note.startswith(said)]
    assert "-1" in splits.answers.names
    rows = [{"image": row["image"], "question": "what is it?", "answer": row["label"]} for row in rows]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    assert not [note for note in load_questions(tmp_path).notes if "-1" in note]
