"""Copies of an image are one image, whatever they are called and wherever they are kept."""

import shutil

from datasets import Dataset
from question_folders import picture, write_csv, write_pictures

from otmerge_hf.data import load_questions
from otmerge_hf.data.read_questions import read_questions


def parts_of(splits):
    return splits.train, splits.validation, splits.test


def contents(part):
    return {image.read_bytes() for image in part.images}


def test_copies_in_two_folders_are_held_out_together(tmp_path):
    write_pictures(tmp_path / "a", 20)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    rows = [(f"{folder}/{i}.png", "is it red?", "yes" if i % 3 else "no") for i in range(20) for folder in "ab"]
    write_csv(tmp_path / "questions.csv", rows)
    splits = load_questions(tmp_path)
    assert [len(part.images) for part in parts_of(splits)] == [14, 3, 3]
    assert [len(part) for part in parts_of(splits)] == [28, 6, 6]
    seen = [contents(part) for part in parts_of(splits)]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 20


def test_copies_in_two_splits_are_counted(tmp_path):
    write_pictures(tmp_path / "train", 12)
    write_pictures(tmp_path / "test", 4, 100)
    shutil.copy(tmp_path / "train" / "3.png", tmp_path / "test" / "photo.png")
    write_csv(tmp_path / "train" / "q.csv", [(f"{i}.png", "is it?", "yes" if i % 2 else "no") for i in range(12)])
    names = [*(f"{i}.png" for i in range(100, 104)), "photo.png"]
    write_csv(tmp_path / "test" / "q.csv", [(name, "is it?", "yes") for name in names])
    notes = load_questions(tmp_path, validation_split="train/q.csv[:2]").notes
    assert "1 of the 5 images of test are also in train" in notes


def test_a_file_and_a_picture_inside_a_table_may_be_the_same(tmp_path):
    write_pictures(tmp_path, 12)
    write_csv(tmp_path / "train.csv", [(f"{i}.png", "is it?", "yes" if i % 2 else "no") for i in range(12)])
    rows = [{"image": {"bytes": (tmp_path / f"{i}.png").read_bytes(), "path": None}, "question": "is it?",
             "answer": "yes"} for i in (10, 11)]  # fmt: skip
    Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
    read = read_questions(tmp_path)
    assert {key for row in read.rows["test"] for key in row.keys} < {
        key for row in read.rows["train"] for key in row.keys
    }


def test_numbers_of_images_are_the_same_as_text(tmp_path):
    def rows(first, kind):
        return [
            {"image": picture(n), "image_id": kind(n), "question": f"is it {k}?", "answer": "yes" if k else "no"}
            for n in range(first, first + 12) for k in range(2)
        ]  # fmt: skip

    Dataset.from_list(rows(0, int)).to_parquet(tmp_path / "train.parquet")
    Dataset.from_list(rows(8, str)).to_parquet(tmp_path / "test.parquet")
    notes = load_questions(tmp_path, image_id_column="image_id", validation_split="train[:6]").notes
    assert "4 of the 12 images of test are also in train" in notes
    assert not any("image_id" in note for note in notes)


def test_one_number_for_two_images_is_said_and_tells_nothing(tmp_path):
    write_pictures(tmp_path, 20)
    rows = [(f"{i}.png", i % 18, "is it?", "yes" if i % 2 else "no") for i in range(20)]
    write_csv(tmp_path / "questions.csv", rows, ("image", "image_id", "question", "answer"))
    splits = load_questions(tmp_path, image_id_column="image_id")
    assert sum(len(part.images) for part in parts_of(splits)) == 20
    assert (
        "2 values of 'image_id' each name images of different content; the content tells images apart" in splits.notes
    )
