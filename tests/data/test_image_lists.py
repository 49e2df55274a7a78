"""Questions about several images a row: found, looked at, kept apart by split, encoded once."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from question_folders import check, picture, write_csv, write_pictures

from otmerge_hf.data import check_questions, encode_questions, load_questions, load_rows
from otmerge_hf.data.raw_collator import RawCollator
from otmerge_hf.data.read_questions import read_questions
from otmerge_hf.data.tables import dataset_table


SHARED = Path(__file__).parents[3] / "shared" / "data"
HUB = {
    "id": Value("string"), "question_type": Value("string"), "question": Value("string"),
    "images": List(ImageFeature()), "options": List(Value("string")), "answer": Value("string"),
    "data_source": Value("string"), "category": Value("string"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def hub_row(n, images):
    """A row as TIGER-Lab/NLVR2 has it."""
    fixed = {"question_type": "multi-choice", "options": ["True", "False"], "data_source": "NLVR2", "category": ""}
    return fixed | {"id": f"nlvr2_{n}", "question": f"s {n % 3}", "images": images, "answer": "AB"[n % 2]}


def parts_of(splits):
    return splits.train, splits.validation, splits.test


def first_pixels(part):
    """For each row the first pixel of each of its images, which names it."""
    return [[image.getpixel((0, 0))[0] for image in part.images_of(row)] for row in range(len(part))]


def test_nlvr2_asks_about_two_images(tmp_path):
    rows = [hub_row(n, [picture(2 * n), picture(2 * n + 1)]) for n in range(12)]
    Dataset.from_list(rows, features=Features(HUB)).to_parquet(tmp_path / "test.parquet")
    splits = load_questions(tmp_path, preset="nlvr2")
    assert sorted(splits.answers.names) == ["false", "true"]
    assert [len(part) for part in parts_of(splits)] == [8, 2, 2]
    assert splits.test.origin == "2 of 12 training groups of images, held out"
    for part in parts_of(splits):
        assert part.several_images
        assert len(part.images) == 2 * len(part)
        for (left, right), text, (answer,) in zip(first_pixels(part), part.text_rows, part.answers, strict=True):
            number = left // 2
            assert right == left + 1
            assert part.texts[text] == f"s {number % 3}"
            assert answer == ["True", "False"][number % 2]


def test_images_that_another_program_wrote_and_rows_without_any(tmp_path):
    record = {"bytes": Value("binary"), "path": Value("string")}
    write_pictures(tmp_path, 3)
    stored = [{"bytes": (tmp_path / f"{n}.png").read_bytes(), "path": None} for n in range(3)]
    values = [[stored[0], stored[1]], [stored[1], stored[2]], [], None]
    table = dataset_table(Dataset.from_dict({"pair": values}, features=Features(pair=List(record))), "rows")
    assert table.image_lists == ("pair",)
    assert [len(row) for row in table.columns["pair"]] == [2, 2, 0, 0]
    first, second = table.columns["pair"][:2]
    assert first[1].identity == second[0].identity != first[0].identity
    assert second[1].open().getpixel((0, 0))[0] == 2
    assert second[1].stream().read() == stored[2]["bytes"]


def test_two_columns_of_paths(tmp_path, capsys):
    write_pictures(tmp_path, 24)
    rows = [(f"{2 * n}.png", f"{2 * n + 1}.png", "is it ?", "yes" if n % 2 else "no") for n in range(12)]
    write_csv(tmp_path / "rows.csv", rows, ("left", "right", "question", "answer"))
    splits = load_questions(tmp_path, image_column=["left", "right"])
    for part in parts_of(splits):
        for row in range(len(part)):
            left, right = (int(path.stem) for path in part.images_of(row))
            assert right == left + 1
            assert part.answers[row] == ("yes" if left // 2 % 2 else "no",)
    code, out, _ = check(capsys, tmp_path, "--image-column", "left", "--image-column", "right")
    assert code == 0
    assert "Columns: image 'left and right', question 'question', answer 'answer'" in out
    code, _, lines = check(capsys, tmp_path, "--image-column", "left", "--image-column", "rigth")
    assert code == 2
    assert "--image-column: rows.csv has no column 'rigth'; its columns are left, right, question" in lines[0]
    assert not load_rows(tmp_path, image_column=["left"]).several_images


def test_lists_of_paths_in_json(tmp_path):
    write_pictures(tmp_path, 4)
    rows = [{"images": ["0.png", "1.png"], "question": "a"}, {"images": ["2.png"], "question": "b"}]
    (tmp_path / "rows.json").write_text(str(rows).replace("'", '"'))
    questions = load_rows(tmp_path / "rows.json")
    assert questions.image_rows == [(0, 1), (2,)]
    assert [[path.name for path in questions.images_of(row)] for row in (0, 1)] == [["0.png", "1.png"], ["2.png"]]


def test_each_bad_image_is_named_with_its_place(tmp_path):
    write_pictures(tmp_path, 24)
    (tmp_path / "7.png").write_bytes(b"none")
    rows = [(f"{2 * n}.png", f"{2 * n + 1}.png", "is it ?", "yes" if n % 2 else "no") for n in range(12)]
    rows[0], rows[1] = ("0.png", "gone.png", "is it ?", "no"), ("2.png", "", "is it ?", "yes")
    write_csv(tmp_path / "rows.csv", rows, ("left", "right", "question", "answer"))
    report = check_questions(tmp_path, image_column=["left", "right"])
    assert [row.partition(" in /")[0] for row in report.bad] == [
        "rows.csv, line 2: image 2 of 2: no image 'gone.png'",
        "rows.csv, line 3: image 2 of 2: the image is empty",
        "rows.csv, line 5: image 2 of 2: image '7.png' is no image",
    ]
    values = {"left": [picture(0), None], "right": [None, None], "label": ["a", "b"]}
    dataset = Dataset.from_dict(
        values, features=Features(left=ImageFeature(), right=ImageFeature(), label=Value("string"))
    )
    read = read_questions(dataset, image_column=["left", "right"])
    assert read.bad == ["rows, row 1: image 2 of 2: there is none"]
    assert "rows: 1 of 2 rows have no image and are left out" in read.notes


def test_rows_that_share_an_image_stay_in_one_split(tmp_path):
    rows = [hub_row(n, [picture(n), picture(n + 1 if n % 5 else n + 100)]) for n in range(60)]
    splits = load_questions(Dataset.from_list(rows, features=Features(HUB)), preset="nlvr2")
    seen = [{pixel for row in first_pixels(part) for pixel in row} for part in parts_of(splits)]
    assert sum(len(part) for part in parts_of(splits)) == 60
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    chain = [hub_row(n, [picture(n), picture(n + 1)]) for n in range(12)]
    with pytest.raises(
        ValueError, match=r"too few rows: 1 group of images to train on, .*; 6 groups of images are the"
    ):
        load_questions(Dataset.from_list(chain, features=Features(HUB)), preset="nlvr2")


def test_each_image_is_encoded_once_and_the_raw_route_gives_the_same(merge, processor, tmp_path):
    rows = [hub_row(n, [picture(n % 8), picture((n + 1) % 8)][: 1 + (n % 3 > 0)]) for n in range(8)]
    parts = {name: Dataset.from_list(rows, features=Features(HUB)) for name in ("train", "validation", "test")}
    splits = load_questions(DatasetDict(parts), preset="nlvr2")
    assert len(splits.train.images) == 8
    model = merge(id2label=splits.answers.id2label, label2id={n: i for i, n in splits.answers.id2label.items()})
    encoded = encode_questions(model, processor, splits, cache_dir=tmp_path / "features", progress=False)
    assert len(encoded.context_store) == 24
    assert encoded.test["context_features"][1] == [16 + place for place in splits.test.image_rows[1]]
    mean, _ = encoded.context_store.statistics(range(8))
    assert torch.equal(model.otmerge.context_standardizer.mean, mean)
    some = [encoded.train[row] for row in range(8)]
    raw = RawCollator(splits.train.images, encoded.texts, processor)(some)
    cached = encoded.collator(some)
    assert raw["image_mask"].tolist() == cached["image_mask"].tolist() == [[1, int(n % 3 > 0)] for n in range(8)]
    assert raw["labels"].tolist() == cached["labels"].tolist()
    with torch.no_grad():
        torch.testing.assert_close(model(**raw).logits, model(**cached).logits, atol=1e-5, rtol=1e-5)


def test_files_with_the_columns_of_the_hub():
    if not (SHARED / "hub_schemas" / "TIGER-Lab__NLVR2").is_dir():
        pytest.skip("the files with Hub schemas are not here")
    questions = load_rows(SHARED / "hub_schemas" / "TIGER-Lab__NLVR2", preset="nlvr2")
    assert all(len(row) == 2 for row in questions.image_rows)
    assert {answer for row in questions.answers for answer in row} <= {"True", "False"}
