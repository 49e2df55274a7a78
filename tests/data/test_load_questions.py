"""Folders, tables and data sets of questions -> three parts, every row where it belongs."""

import json
import logging
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from question_folders import picture, questions, write_csv, write_pictures, write_questions

from otmerge_hf.data import load_questions, load_rows
from otmerge_hf.model.images import open_image
from otmerge_hf.model.texts import NO_TEXT


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def name_of(image):
    """`3.png` of a path, or of a picture that was written as such."""
    if isinstance(image, Path):
        return image.name
    low, high, _ = image.getpixel((0, 0))
    return f"{low + 256 * high}.png"


def rows_of(part):
    """Every row of a part as (image, question, answers)."""
    names = [name_of(image) for image in part.images]
    return [
        (names[image], part.texts[text], answers)
        for image, text, answers in zip(part.image_rows, part.text_rows, part.answers, strict=True)
    ]


def parts_of(splits):
    return splits.train, splits.validation, splits.test


def expected(count, first=0):
    return [(name, question, (answer,)) for name, question, answer in questions(count, first)]


def test_missing_splits_are_whole_images_held_out(tmp_path):
    splits = load_questions(write_questions(tmp_path, 40))
    assert sorted(row for part in parts_of(splits) for row in rows_of(part)) == sorted(expected(40))
    assert [len(part.images) for part in parts_of(splits)] == [28, 6, 6]
    assert [len(part) for part in parts_of(splits)] == [56, 12, 12], "an image keeps all its rows"
    names = [name for part in parts_of(splits) for name in {row[0] for row in rows_of(part)}]
    assert len(names) == len(set(names)) == 40, "no image is in two parts"
    again, other = load_questions(tmp_path), load_questions(tmp_path, seed=1)
    assert rows_of(again.test) == rows_of(splits.test) != rows_of(other.test)


def test_splits_of_the_source_are_taken_whole(tmp_path):
    write_pictures(tmp_path, 40)
    for name, first, count in (("q_train.csv", 0, 20), ("q_dev.csv", 20, 8), ("q_test2015.csv", 28, 12)):
        write_csv(tmp_path / name, questions(count, first))
    splits = load_questions(tmp_path)
    assert [rows_of(part) for part in parts_of(splits)] == [expected(20), expected(8, 20), expected(12, 28)]
    assert splits.train.where[:2] == ["q_train.csv, line 2", "q_train.csv, line 3"]
    assert splits.train.origin == "q_train.csv"
    (tmp_path / "q_dev.csv").unlink()
    splits = load_questions(tmp_path)
    assert rows_of(splits.test) == expected(12, 28), "only what is missing is held out"
    assert [len(part.images) for part in parts_of(splits)] == [17, 3, 12]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_imagefolder_with_metadata_in_each_split(tmp_path, kind):
    for split, first, count in (("train", 0, 12), ("validation", 12, 6), ("test", 18, 6)):
        write_pictures(tmp_path / split, count, first)
        rows = questions(count, first)
        if kind == "csv":
            write_csv(tmp_path / split / "metadata.csv", rows, ("file_name", "question", "answer"))
        else:
            records = [dict(zip(("file_name", "question", "answer"), row, strict=True)) for row in rows]
            (tmp_path / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, records)))
    splits = load_questions(tmp_path)
    assert [rows_of(part) for part in parts_of(splits)] == [expected(12), expected(6, 12), expected(6, 18)]
    assert splits.test.where[0] == f"test/metadata.{kind}, line {2 if kind == 'csv' else 1}"


def test_a_column_of_splits(tmp_path):
    write_pictures(tmp_path, 24)
    names = ["train"] * 24 + ["val"] * 12 + ["test"] * 12
    rows = [(*row, name) for row, name in zip(questions(24), names, strict=True)]
    write_csv(tmp_path / "rows.csv", rows, ("image", "question", "answer", "split"))
    splits = load_questions(tmp_path)
    assert [rows_of(part) for part in parts_of(splits)] == [expected(12), expected(6, 12), expected(6, 18)]
    swapped = load_questions(tmp_path, train_split="val", validation_split="test", test_split="train")
    assert rows_of(swapped.train) == expected(6, 12)


def test_a_split_can_be_named_and_cut(tmp_path):
    write_pictures(tmp_path, 40)
    write_csv(tmp_path / "pairs_validation.csv", questions(20))
    write_csv(tmp_path / "pairs_test.csv", questions(10, 20))
    splits = load_questions(tmp_path, train_split="validation", test_split="pairs_test.csv")
    assert [len(part.images) for part in parts_of(splits)] == [17, 3, 10]
    cut = load_questions(
        tmp_path,
        train_split="pairs_validation[:50%]",
        validation_split="pairs_validation[30:40]",
        test_split="test[2:6]",
    )
    assert [rows_of(part) for part in parts_of(cut)] == [expected(10), expected(5, 15), expected(2, 21)]


@pytest.mark.parametrize("ending", ["tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_table(tmp_path, ending):
    write_pictures(tmp_path, 12)
    records = [dict(zip(("image", "question", "answer"), row, strict=True)) for row in questions(12)]
    path = tmp_path / f"rows.{ending}"
    if ending == "tsv":
        write_csv(path, questions(12), delimiter="\t")
    elif ending == "parquet":
        Dataset.from_list(records).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, records)) if ending == "jsonl" else json.dumps(records, indent=1))
    for source in (tmp_path, path, str(path), [path]):
        splits = load_questions(source)
        assert sorted(row for part in parts_of(splits) for row in rows_of(part)) == sorted(expected(12))
        place = {"tsv": "line 2", "jsonl": "line 1"}.get(ending, "row 1")
        assert f"rows.{ending}, {place}" in {where for part in parts_of(splits) for where in part.where}


def embedded(count, first=0):
    """Rows with their pictures inside."""
    rows = []
    for name, question, answer in questions(count, first):
        rows.append({"image": picture(int(name.partition(".")[0])), "question": question, "answer": answer})
    return Dataset.from_list(rows)


def test_pictures_inside_a_data_set_are_one_by_their_content(tmp_path):
    embedded(20).to_parquet(tmp_path / "train.parquet")
    embedded(8, 20).to_parquet(tmp_path / "test.parquet")
    in_memory = DatasetDict(train=embedded(20), test=embedded(8, 20))
    in_memory.save_to_disk(tmp_path / "saved")
    for source in ([tmp_path / "train.parquet", tmp_path / "test.parquet"], in_memory, tmp_path / "saved"):
        splits = load_questions(source)
        assert [len(part.images) for part in parts_of(splits)] == [17, 3, 8]
        assert rows_of(splits.test) == expected(8, 20)
        assert sorted(rows_of(splits.train) + rows_of(splits.validation)) == sorted(expected(20))
        assert [open_image(image).mode for image in splits.test.images[:2]] == ["RGB", "RGB"]


def test_shards_are_one_table(tmp_path):
    embedded(6).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    embedded(6, 6).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    splits = load_questions(tmp_path)
    assert sorted(row for part in parts_of(splits) for row in rows_of(part)) == sorted(expected(12))
    wheres = {where for part in parts_of(splits) for where in part.where}
    assert any("row 1 of train-00001-of-00002.parquet" in where for where in wheres)


def test_a_damaged_picture_inside_a_data_set_is_named_by_its_row():
    rows = embedded(12).cast_column("image", ImageFeature(decode=False)).to_list()
    rows[5]["image"] = {"bytes": b"nothing", "path": None}
    features = Features({"image": ImageFeature(), "question": Value("string"), "answer": Value("string")})
    with pytest.raises(ValueError, match="1 bad row: rows, row 6: the image is no image"):
        load_questions(Dataset.from_list(rows, features=features))


def test_images_alone_and_class_labels(tmp_path):
    rows = [{"image": row["image"], "label": i % 2} for i, row in enumerate(embedded(12))]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["A cat", "a cat"])})
    splits = load_questions(Dataset.from_list(rows, features=features))
    assert set(splits.answers.names) == {"A cat", "a cat"}, "classes are kept as they are written"
    assert splits.train.texts == [NO_TEXT]
    write_pictures(tmp_path / "data", 12)
    write_csv(
        tmp_path / "data" / "rows.csv", [(f"{i}.png", ["Cat", "cat"][i % 2]) for i in range(12)], ("img", "gold_label")
    )
    assert set(load_questions(tmp_path / "data").answers.names) == {"Cat", "cat"}
    with pytest.raises(ValueError, match="the only answer is 'cat'"):
        load_questions(tmp_path / "data", normalize=True)


def test_folders_of_classes_without_any_table(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        write_pictures(tmp_path / "data" / "train" / name, 8, 8 * number)
    splits = load_questions(tmp_path / "data")
    assert splits.answers.names == ["cat", "dog"]
    assert sum(len(part) for part in parts_of(splits)) == 16


def test_spellings_are_one_answer_and_numbers_are_words(tmp_path):
    write_pictures(tmp_path, 12)
    answers = ["Yes ", "yes", "YES.", "two"]
    write_csv(tmp_path / "rows.csv", [(f"{i}.png", "is it?", answers[i % 4]) for i in range(12)])
    assert set(load_questions(tmp_path).answers.names) == {"yes", "2"}
    assert len(load_questions(tmp_path, normalize=False).answers.names) == 4


@pytest.mark.parametrize("form", ["records", "lists", "json", "python", "separator"])
def test_votes_in_every_form(tmp_path, form):
    write_pictures(tmp_path, 12)
    votes = [["red"] * 6 + ["blue"] * (4 if i % 2 else 3) + ["green"] * (0 if i % 2 else 1) for i in range(12)]
    cells = {
        "records": [[{"answer": word, "answer_id": n} for n, word in enumerate(own)] for own in votes],
        "lists": votes,
        "json": [json.dumps(own) for own in votes],
        "python": [str(own) for own in votes],
        "separator": ["|".join(own) for own in votes],
    }[form]
    records = [{"image": f"{i}.png", "question": "what?", "answers": cell} for i, cell in enumerate(cells)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, records)))
    splits = load_questions(tmp_path, answer_separator="|" if form == "separator" else None)
    assert splits.answers.targets == "votes"
    for part in parts_of(splits):
        for image, row in zip(part.image_rows, part.answers, strict=True):
            assert list(row) == votes[int(part.images[image].stem)]
    labels = splits.answers.labels([tuple(votes[1])])
    assert dict(zip(*labels[0].values(), strict=True))[splits.answers.names.index("red")] == 1.0


def test_several_labels(tmp_path):
    write_pictures(tmp_path, 12)
    records = [{"image": f"{i}.png", "labels": ["cat", "dog"][: i % 3]} for i in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(records))
    splits = load_questions(tmp_path, targets="labels")
    assert splits.answers.targets == "labels"
    assert splits.answers.names == ["cat", "dog"]
    assert sum(len(part) for part in parts_of(splits)) == 12, "a row without any label is a row"


def test_what_is_worth_knowing_is_said(tmp_path, caplog):
    write_pictures(tmp_path, 20)
    write_csv(tmp_path / "train.csv", [*questions(12), *questions(2)])
    write_csv(tmp_path / "test.csv", [*questions(3, 10), ("15.png", "what color is it?", "violet")])
    with caplog.at_level(logging.WARNING):
        splits = load_questions(tmp_path)
    assert splits.notes == [record.getMessage() for record in caplog.records]
    assert "train.csv: 4 rows repeat image, question and answer" in splits.notes
    shared = [note for note in splits.notes if "are also in train" in note or "are also in validation" in note]
    assert sum(int(note.split()[0]) for note in shared) == 2, "two of test's images are training's own"
    assert (
        "1 of 7 rows of test have none of the 5 answers that training gives ('violet', say); accuracy is at most 0.857"
        in splits.notes
    )
    assert splits.answers.ceiling(splits.test.answers) == pytest.approx(6 / 7)


def test_a_test_split_without_answers_is_read(tmp_path):
    write_pictures(tmp_path, 20)
    write_csv(tmp_path / "train.csv", questions(12))
    write_csv(tmp_path / "test.csv", [row[:2] for row in questions(3, 12)], ("image", "question"))
    splits = load_questions(tmp_path)
    assert splits.test.answers == [()] * 6
    assert "test.csv: no row of test has an answer; it cannot be scored" in splits.notes


def test_kinds_of_questions_are_kept(tmp_path):
    write_pictures(tmp_path, 12)
    rows = [(*row, row[1].split()[0], "x") for row in questions(12)]
    write_csv(tmp_path / "rows.csv", rows, ("image", "question", "answer", "question_type", "subject"))
    part = load_questions(tmp_path).train
    assert list(part.kinds) == ["question_type"]
    assert part.kinds["question_type"] == [part.texts[text].split()[0] for text in part.text_rows]
    assert set(load_questions(tmp_path, kind_columns=["subject"]).train.kinds["subject"]) == {"x"}


def test_top_answers(tmp_path):
    write_questions(tmp_path, 30)
    splits = load_questions(tmp_path, top=2)
    assert len(splits.answers.names) == 2
    assert splits.answers.names[0] == "no", "two pictures in three are not red"
    assert any("rows of test have none of the 2 answers that training gives" in note for note in splits.notes)


def test_rows_to_score_need_no_training_table(tmp_path):
    write_pictures(tmp_path, 12)
    write_csv(tmp_path / "val.csv", questions(2))
    write_csv(tmp_path / "test.csv", [row[:2] for row in questions(4, 2)], ("image", "question"))
    assert rows_of(load_rows(tmp_path, part="validation")) == expected(2)
    assert len(load_rows(tmp_path)) == 12
    with pytest.raises(ValueError, match="there is nothing to train on"):
        load_questions(tmp_path)


def test_answers_that_look_like_several_are_pointed_out(tmp_path):
    write_pictures(tmp_path, 12)
    listed = [(f"{i}.png", "what is there?", '"book, lamp"' if i % 2 else "book") for i in range(12)]
    write_csv(tmp_path / "train.csv", listed)
    note = "train.csv: 6 answers have a comma in them ('book, lamp'), each is one answer"
    splits = load_questions(tmp_path)
    assert splits.answers.names == ["book", "book lamp"]
    assert [one for one in splits.notes if one.startswith(note)]
    separated = load_questions(tmp_path, answer_separator=",", targets="labels")
    assert separated.answers.names == ["book", "lamp"]
    assert not [one for one in separated.notes if "comma" in one]
