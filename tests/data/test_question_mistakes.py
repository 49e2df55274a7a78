"""Every mistake in a table of questions gets one line that says where it is and what to do; from the command line."""

import json
import os

import pytest
from PIL import Image
from question_folders import check, questions, write_csv, write_pictures, write_questions

from otmerge_hf.data import BadRowsError, load_questions
from otmerge_hf.data.tables import read_table


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


@pytest.fixture
def folder(tmp_path):
    return write_questions(tmp_path / "data")


def refused(capsys, *words):
    """The one line with which the command refuses to read a source at all."""
    code, out, lines = check(capsys, *words)
    assert code == 2
    assert out == ""
    assert len(lines) == 1
    assert lines[0].startswith("otmerge check: error: ")
    return lines[0].removeprefix("otmerge check: error: ")


def bad_rows(capsys, *words):
    """What the command says about rows that are bad; the others are good."""
    code, out, lines = check(capsys, *words)
    assert (code, lines) == (1, [])
    head, _, listed = out.partition("Bad rows: ")
    assert "train: " in head
    count, *rows = listed.splitlines()
    assert int(count) == len(rows)
    return [row.strip() for row in rows]


def test_nothing_wrong(capsys, folder):
    code, out, lines = check(capsys, folder)
    assert (code, lines) == (0, [])
    assert out.splitlines()[0] == "Columns: image 'image', question 'question', answer 'answer'"
    assert "train: 16 rows, 8 images, 2 distinct texts, from questions.csv, without what is held out" in out
    assert "No bad rows." in out


@pytest.mark.parametrize("argument", ["image", "question", "answer"])
def test_wrong_column(capsys, folder, argument):
    line = refused(capsys, folder, f"--{argument}-column", "wrong")
    assert line == (
        f"--{argument}-column: questions.csv has no column 'wrong'; its columns are image, question, answer"
    )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            ("bild", "question", "answer"),
            "images was found; its columns are bild, question, answer; pass --image-column",
        ),
        (
            ("image", "question", "antwort"),
            "answers was found; its columns are image, question, antwort; pass --answer",
        ),
        (
            ("image", "frage", "answer"),
            "column 'frage' holds text; pass --question-column, or '' as --question-column",
        ),
    ],
)
def test_columns_of_unknown_names(capsys, folder, header, words):
    write_csv(folder / "questions.csv", questions(12), header)
    line = refused(capsys, folder)
    assert line.startswith("questions.csv: no column of ")
    assert words in line


@pytest.mark.parametrize(("delimiter", "words"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "a bar")])
def test_wrong_delimiter(capsys, folder, delimiter, words):
    write_csv(folder / "questions.csv", questions(12), delimiter=delimiter)
    line = refused(capsys, folder)
    assert line.startswith("questions.csv, line 1: the header has one column, ")
    assert f"with {words} in it; pass --delimiter {delimiter!r}" in line
    assert check(capsys, folder, "--delimiter", delimiter)[0] == 0


def test_header_missing(capsys, folder):
    write_csv(folder / "questions.csv", questions(12), header=None)
    line = refused(capsys, folder)
    assert line.startswith("questions.csv, line 1: '0.png,what color is it?,red' is a row; expected a header such as")


def test_a_column_twice(capsys, folder):
    write_csv(folder / "questions.csv", questions(12), header=("image", "answer", "answer"))
    assert refused(capsys, folder) == "questions.csv, line 1: the header names column 'answer' twice"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_empty_file(capsys, folder, content):
    (folder / "questions.csv").write_bytes(content)
    assert refused(capsys, folder) == "questions.csv is an empty file"


def test_header_and_no_rows(capsys, folder):
    write_csv(folder / "questions.csv", [])
    assert refused(capsys, folder) == "questions.csv has a header and no rows"


def test_ragged_rows(capsys, folder):
    rows = questions(12)
    rows[3] = rows[3][:2]
    rows[5] = ("5.png", "is it red", " or blue?", "blue")
    write_csv(folder / "questions.csv", rows)
    assert bad_rows(capsys, folder) == [
        "questions.csv, line 5: 2 fields, where the header has 3",
        'questions.csv, line 7: 4 fields, where the header has 3; text that holds a comma needs quotes ("...")',
    ]


def test_a_line_after_a_field_of_two_lines(capsys, folder):
    rows = questions(12)
    rows[0] = ("0.png", '"what color\nis it?"', "red")
    rows[1] = ("gone.png", "is it red?", "yes")
    write_csv(folder / "questions.csv", rows)
    assert [row.split(": ")[0] for row in bad_rows(capsys, folder)] == ["questions.csv, line 4"]


def test_a_quote_that_stays_open(capsys, folder):
    rows = questions(12)
    rows[2] = ("1.png", '"what color is it?', "red")
    write_csv(folder / "questions.csv", rows)
    assert refused(capsys, folder) == "questions.csv, line 4: a quote opens here and is not closed"


def test_latin_1(capsys, folder):
    rows = questions(12)
    rows[4] = ("2.png", "is it a café?", "no")
    write_csv(folder / "questions.csv", rows, encoding="latin-1")
    line = refused(capsys, folder)
    assert line.startswith("questions.csv, line 6: byte ")
    assert "(0xe9) is not UTF-8; if the file is Latin-1, convert it: iconv -f ISO-8859-1 -t UTF-8" in line


def test_utf_16_and_byte_order_mark(capsys, folder):
    write_csv(folder / "questions.csv", questions(12), encoding="utf-16")
    assert refused(capsys, folder).startswith("questions.csv is UTF-16; convert it: iconv -f UTF-16")
    write_csv(folder / "questions.csv", questions(12), encoding="utf-8-sig")
    assert check(capsys, folder)[0] == 0


@pytest.mark.parametrize("second", ["metadata.jsonl", "more/rows.csv"])
def test_two_tables_in_one_folder(capsys, tmp_path, second):
    folder = write_questions(tmp_path / "data", name="metadata.csv")
    (folder / "more").mkdir()
    (folder / second).write_text('{"image": "0.png"}\n')
    line = refused(capsys, folder)
    assert line == (
        f"several tables with no split in their names: metadata.csv, {second}; pass one of them as --train-split"
    )
    assert check(capsys, folder, "--train-split", "metadata.csv")[0] == 0


def test_two_tables_for_one_split(capsys, tmp_path):
    folder = write_questions(tmp_path / "data", name="train.csv")
    write_csv(folder / "small_train.csv", questions(3))
    assert "several tables for train: small_train.csv, train.csv; pass one" in refused(capsys, folder)


def test_a_split_that_is_not_there(capsys, folder):
    line = refused(capsys, folder, "--test-split", "testing")
    assert line == "--test-split: there is no 'testing'; there are questions.csv"
    write_csv(folder / "a_test.csv", questions(2))
    os.rename(folder / "questions.csv", folder / "a_val.csv")
    assert (
        refused(capsys, folder) == "there is nothing to train on: there are a_test.csv, a_val.csv; pass --train-split"
    )


def test_nothing_there(capsys, tmp_path):
    assert refused(capsys, tmp_path / "none") == f"--data: no such file or folder: {tmp_path / 'none'}"
    assert check(capsys, tmp_path)[0] == 2


def test_missing_image(capsys, folder):
    rows = questions(12)
    rows[5] = ("x.png", "is it red?", "no")
    write_csv(folder / "questions.csv", rows)
    assert bad_rows(capsys, folder) == [f"questions.csv, line 7: no image 'x.png' in {folder}"]


def test_no_image_is_found(capsys, folder, tmp_path):
    write_csv(tmp_path / "elsewhere" / "questions.csv", questions(12))
    line = refused(capsys, tmp_path / "elsewhere")
    assert line.startswith("questions.csv: none of its 24 images was found; the first: no image '0.png' in ")
    assert line.endswith("; pass --image-folder, or --image-column if 'image' is not it")
    assert check(capsys, tmp_path / "elsewhere", "--image-folder", folder)[0] == 0
    assert refused(capsys, folder, "--image-folder", "nowhere") == "--image-folder: there is no folder 'nowhere'"


def test_damaged_images(capsys, folder):
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2.png").write_bytes(b"")
    (folder / "3.png").write_text("no picture at all")
    noise = Image.effect_noise((64, 64), 80)
    noise.save(folder / "4.jpg")
    (folder / "4.jpg").write_bytes((folder / "4.jpg").read_bytes()[:-200])
    rows = questions(12)
    rows[8] = ("4.jpg", "what color is it?", "red")
    write_csv(folder / "questions.csv", rows)
    found = bad_rows(capsys, folder)
    assert [row.split(": ")[0] for row in found] == [f"questions.csv, line {n}" for n in (4, 5, 6, 7, 8, 9, 10)]
    assert "image '1.png' cannot be opened: " in found[0]
    assert found[2].endswith("image '2.png' is an empty file")
    assert found[4].endswith("image '3.png' is no image")
    assert "image '4.jpg' cannot be opened: " in found[6]
    assert "truncated" in found[6]
    # A cut JPEG is found without reading every picture to its end, too.
    with pytest.raises(BadRowsError, match=r"^7 bad rows: questions.csv, line 4: ") as error:
        load_questions(folder)
    assert error.value.rows == found


def test_empty_question_and_empty_answer(capsys, folder):
    rows = questions(12)
    rows[2] = ("1.png", "  ", "red")
    rows[3] = ("1.png", "is it red?", "")
    rows[4] = ("", "is it red?", "no")
    write_csv(folder / "questions.csv", rows)
    assert bad_rows(capsys, folder) == [
        "questions.csv, line 4: the question is empty (column 'question')",
        "questions.csv, line 5: the answer is empty (column 'answer')",
        "questions.csv, line 6: the image is empty",
    ]


def test_bad_rows_can_be_left_out(capsys, folder):
    rows = questions(12)
    rows[0] = ("x.png", "is it red?", "no")
    write_csv(folder / "questions.csv", rows)
    code, out, _ = check(capsys, folder, "--skip-bad")
    assert code == 0
    assert "Bad rows: 1\n  questions.csv, line 2: no image 'x.png' in " in out
    assert out.endswith("They are left out.\n")
    splits = load_questions(folder, skip_bad=True)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 23
    assert [row.partition(":")[0] for row in splits.left_out] == ["questions.csv, line 2"]


def test_many_bad_rows_are_counted(folder):
    write_csv(folder / "questions.csv", [("x.png", "is it red?", "no")] * 30 + questions(12))
    with pytest.raises(BadRowsError) as error:
        load_questions(folder)
    first, *others = str(error.value).splitlines()
    assert (
        first
        == f"30 bad rows: questions.csv, line 2: no image 'x.png' in {folder}; pass skip_bad to leave bad rows out"
    )
    assert others[0].strip().startswith("questions.csv, line 3: ")
    assert others[-1].strip() == "and 10 more"
    assert len(error.value.rows) == 30


def test_sub_folders_absolute_paths_and_names_that_occur_twice(capsys, tmp_path):
    folder = tmp_path / "data"
    write_pictures(folder / "pictures" / "deep", 12)
    rows = questions(12)
    rows[0] = (folder / "pictures" / "deep" / "0.png", *rows[0][1:])
    rows[1] = ("deep/0.png", *rows[1][1:])
    write_csv(folder / "questions.csv", rows)
    splits = load_questions(folder)
    paths = {str(image) for part in (splits.train, splits.validation, splits.test) for image in part.images}
    assert paths == {str(folder / "pictures" / "deep" / f"{i}.png") for i in range(12)}, "no image counts twice"

    write_pictures(folder / "others", 1)
    rows[2] = ("0.png", "is it red?", "yes")
    write_csv(folder / "questions.csv", rows)
    (row,) = bad_rows(capsys, folder)
    assert row.startswith("questions.csv, line 4: image '0.png' is in 2 folders: ")
    assert row.endswith("; write which one")


def test_addresses_are_not_fetched(capsys, folder):
    rows = questions(12)
    rows[1] = ("https://example.invalid/0.png", *rows[1][1:])
    write_csv(folder / "questions.csv", rows)
    (row,) = bad_rows(capsys, folder)
    assert "line 3: image 'https://example.invalid/0.png' is an address; expected a file" in row


def test_answers_that_are_numbers(folder):
    write_csv(folder / "questions.csv", [(f"{i}.png", "how many?", 2 + i % 2) for i in range(12)])
    assert set(load_questions(folder).answers.names) == {"2", "3"}
    rows = [{"image": f"{i}.png", "question": "how many?", "answer": 2.0 + i % 2} for i in range(12)]
    (folder / "questions.csv").unlink()
    (folder / "questions.json").write_text(json.dumps(rows))
    assert set(load_questions(folder).answers.names) == {"2", "3"}


def test_one_class_only(capsys, folder):
    write_csv(folder / "questions.csv", [(f"{i}.png", "is it red?", "yes ") for i in range(12)])
    line = refused(capsys, folder)
    assert line == "questions.csv, column 'answer': there is nothing to learn: the only answer is 'yes'"


def test_too_few_rows(capsys, tmp_path):
    folder = write_questions(tmp_path / "data", 5)
    line = refused(capsys, folder)
    assert line.startswith(
        "too few rows: 5 images to train on, of which some are to be held out for validation and test"
    )
    write_csv(folder / "questions.csv", [("x.png", "is it red?", "no"), *questions(5)])
    code, out, lines = check(capsys, folder)
    assert code == 1
    assert "line 2: no image 'x.png'" in out
    assert lines == [f"otmerge check: error: without the bad rows, {line}"]


def test_broken_json(capsys, tmp_path):
    folder = tmp_path / "data"
    write_pictures(folder, 12)
    rows = [{"image": name, "question": question, "answer": answer} for name, question, answer in questions(12)]
    lines = list(map(json.dumps, rows))
    lines[3] = lines[3][:-2]
    lines[5] = "[1]"
    (folder / "rows.jsonl").write_text("\n".join(lines))
    first, second = bad_rows(capsys, folder)
    assert first.startswith("rows.jsonl, line 4: no JSON: ")
    assert second == "rows.jsonl, line 6: no record, but '[1]'"
    (folder / "rows.jsonl").unlink()
    (folder / "rows.json").write_text(json.dumps(rows, indent=1)[:-2])
    line = refused(capsys, folder)
    assert line.startswith(f"rows.json, line {len(rows) * 5 + 1}: no JSON: ")


def test_an_answer_that_is_a_record(capsys, tmp_path):
    folder = tmp_path / "data"
    write_pictures(folder, 12)
    rows = [{"image": name, "question": question, "answer": answer} for name, question, answer in questions(12)]
    rows[2]["answer"] = {"colour": "red"}
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (row,) = bad_rows(capsys, folder)
    assert row == "rows.jsonl, line 3: the answer is a record of colour; expected text, a number, or a list of them"


def test_several_answers_without_saying_what_they_are(capsys, folder):
    rows = [(f"{i}.png", "what?", "red|blue" if i % 2 else "red") for i in range(12)]
    write_csv(folder / "questions.csv", rows)
    line = refused(capsys, folder, "--answer-separator", "|")
    assert line.endswith("a row has 2 answers; expected one each; pass --targets votes or labels")
    assert check(capsys, folder, "--answer-separator", "|", "--targets", "labels")[0] == 0
    (row, *_) = (
        check(capsys, folder, "--answer-separator", "|", "--targets", "votes")[1]
        .partition("Bad rows")[2]
        .splitlines()[1:]
    )
    assert row.strip() == "questions.csv, line 2: 1 answer in column 'answer'; votes need 4 or more"


def test_options_that_mean_nothing_here(capsys, folder):
    assert "--config-name: no option of a source that is here" in refused(capsys, folder, "--config-name", "small")
    with pytest.raises(ValueError, match="`revison`: no option of a source that is here"):
        load_questions(folder, revison="main")
    with pytest.raises(ValueError, match="`targets` is 'vote'; expected one of single, votes, labels"):
        load_questions(folder, targets="vote")
    with pytest.raises(ValueError, match="`preset` is 'vqa'; expected one of vqav2, gqa"):
        load_questions(folder, preset="vqa")


def test_a_missing_test_image_is_not_taken_from_training(capsys, tmp_path):
    for split, first in (("train", 0), ("test", 0)):
        write_pictures(tmp_path / split, 12, first)
        write_csv(tmp_path / split / "metadata.csv", questions(12), ("file_name", "question", "answer"))
    (tmp_path / "test" / "3.png").unlink()
    rows = bad_rows(capsys, tmp_path)
    assert rows == [
        f"test/metadata.csv, line {n}: no image '3.png' in {tmp_path / 'test'} or {tmp_path}" for n in (8, 9)
    ]


def test_a_question_that_is_a_list(capsys, tmp_path):
    write_pictures(tmp_path, 12)
    rows = [{"image": f"{n}.png", "caption": "a thing", "label": n % 2} for n in range(12)]
    rows[4]["caption"] = ["a thing", "one thing"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert bad_rows(capsys, tmp_path) == ["rows.jsonl, line 5: the question is a list; expected text"]


def test_a_table_that_is_not_read_is_named(capsys, tmp_path):
    write_questions(tmp_path, name="train.csv")
    write_csv(tmp_path / "sample_submission.csv", [(1, 2)], ("id", "label"))
    code, out, _ = check(capsys, tmp_path)
    assert code == 0
    assert "Note: not read, for no split is in the name: sample_submission.csv" in out


def test_a_ragged_row_is_told_once(capsys, folder):
    rows = [(*row, "train" if n < 16 else "test") for n, row in enumerate(questions(12))]
    rows[3] = rows[3][:2]
    write_csv(folder / "questions.csv", rows, ("image", "question", "answer", "split"))
    assert bad_rows(capsys, folder) == ["questions.csv, line 5: 2 fields, where the header has 4"]
    cut = ["--train-split", "train[:10]", "--test-split", "test"]
    assert len(bad_rows(capsys, folder, *cut)) == 1
    rows[12] = rows[12][:1]
    write_csv(folder / "questions.csv", [row[:3] for row in rows])
    assert len(bad_rows(capsys, folder, "--train-split", "questions[4:]")) == 1
    assert len(bad_rows(capsys, folder)) == 2


@pytest.mark.parametrize("ending", ["gif", "webp", "bmp", "tiff"])
def test_pictures_of_other_kinds_that_are_cut(folder, ending):
    Image.effect_noise((64, 64), 80).save(folder / f"4.{ending}")
    rows = questions(12)
    rows[8] = (f"4.{ending}", "what color is it?", "red")
    write_csv(folder / "questions.csv", rows)
    assert load_questions(folder).answers.names
    (folder / f"4.{ending}").write_bytes((folder / f"4.{ending}").read_bytes()[:-1000])
    with pytest.raises(
        BadRowsError, match=rf"^1 bad row: questions.csv, line 10: image '4\.{ending}' cannot be opened"
    ):
        load_questions(folder)


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"images": [1], "annotations": [2]}, "a record of images, annotations"), ("text", "a str"), (3, "a int")],
)
def test_json_that_is_no_table(capsys, tmp_path, value, kind):
    (tmp_path / "rows.json").write_text(json.dumps(value))
    assert refused(capsys, tmp_path) == f"rows.json is {kind}; expected a list of records, or a record on every line"


def test_json_lines_of_one_record_keep_its_list_of_answers(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "1.png", "answers": ["red", "blue"]}))
    table = read_table(tmp_path / "rows.jsonl")
    assert (table.columns, table.places) == ({"image": ["1.png"], "answers": [["red", "blue"]]}, ["line 1"])
    (tmp_path / "rows.json").write_text(json.dumps({"version": 2, "questions": [{"image": "1.png"}]}, indent=1))
    assert read_table(tmp_path / "rows.json").places == ["row 1"]
