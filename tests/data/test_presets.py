"""Known data sets by name, from tiny files of their true schemas."""

from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageFeature
from question_folders import picture, write_csv, write_pictures

from otmerge_hf.data import PRESETS, load_questions
from otmerge_hf.data.read_questions import read_questions


SHARED = Path(__file__).parents[3] / "shared" / "data"
ROWS = range(12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def parts_of(splits):
    return splits.train, splits.validation, splits.test


def test_vqav2_counts_ten_votes_and_tells_images_by_their_number(tmp_path):
    words = ["red"] * 7 + ["Blue"] * 3
    answers = [{"answer": word, "answer_confidence": "yes", "answer_id": i} for i, word in enumerate(words)]
    rows = [
        {
            "question_type": "what color", "multiple_choice_answer": "red", "answers": answers,
            "image_id": row // 2, "answer_type": "other", "question_id": row, "question": f"what color is {row}?",
            "image": picture(row // 2),
        }
        for row in range(24)
    ]  # fmt: skip
    Dataset.from_list(rows).to_parquet(tmp_path / "validation.parquet")
    splits = load_questions(tmp_path, preset="vqav2")
    assert splits.answers.targets == "votes"
    assert splits.answers.names == ["red", "blue"]
    assert splits.answers.labels(splits.train.answers)[0] == {"answers": [0, 1], "scores": [1.0, 0.9]}
    assert sum(len(part.images) for part in parts_of(splits)) == 12
    assert set(splits.train.kinds) == {"question_type", "answer_type"}


def test_gqa_joins_its_two_configurations(tmp_path):
    for split, first in (("train_balanced", 0), ("val_balanced", 8), ("testdev_balanced", 10), ("train_all", 0)):
        numbers = range(first, first + (8 if split.startswith("train") else 2))
        images = [{"id": str(n), "image": picture(n)} for n in numbers]
        instructions = [
            {"id": f"q{n}{k}", "imageId": str(n), "question": f"is it {k}?", "answer": "yes" if k else "no",
             "fullAnswer": "Yes.", "isBalanced": True}
            for n in numbers for k in range(2)
        ]  # fmt: skip
        Dataset.from_list(images).to_parquet(tmp_path / f"{split}_images.parquet")
        folder = tmp_path / f"{split}_instructions"
        folder.mkdir()
        Dataset.from_list(instructions).to_parquet(folder / "train-00000-of-00001.parquet")
    splits = load_questions(tmp_path, preset="gqa")
    assert [len(part) for part in parts_of(splits)] == [16, 4, 4]
    assert [len(part.images) for part in parts_of(splits)] == [8, 2, 2]
    assert splits.train.where[0] == "train_balanced, row 1"
    for part, first in ((splits.train, 0), (splits.test, 10)):
        assert [image.getpixel((0, 0))[0] for image in part.images] == [*range(first, first + len(part.images))]


def test_gqa_without_its_files_says_what_it_looks_for(tmp_path):
    with pytest.raises(ValueError, match="no split of GQA is here; expected parquet files named SPLIT_images"):
        load_questions(tmp_path, preset="gqa")


def test_snli_ve_in_both_copies(tmp_path):
    labels = ["entailment", "neutral", "contradiction"]
    shuffled = [
        {"Flickr30K_ID": str(n), "gold_label": labels[n % 3], "image": picture(n), "sentence": f"h {n}"} for n in ROWS
    ]
    features = Features(
        image=ImageFeature(), filename=Value("string"), premise=Value("string"), hypothesis=Value("string"),
        label=ClassLabel(names=labels), id=Value("int64"), id_image=Value("int64"),
    )  # fmt: skip
    fatima = [
        {"image": picture(n), "filename": f"{n}.jpg", "premise": f"p {n}", "hypothesis": f"h {n}", "label": n % 3,
         "id": n, "id_image": n}
        for n in ROWS
    ]  # fmt: skip
    for dataset in (Dataset.from_list(shuffled), Dataset.from_list(fatima, features=features)):
        splits = load_questions(dataset, preset="snli-ve")
        assert set(splits.answers.names) == set(labels)
        assert not splits.answers.normalize
        for part in parts_of(splits):
            for text, (answer,) in zip(part.text_rows, part.answers, strict=True):
                assert answer == labels[int(part.texts[text].split()[1]) % 3]


def test_scienceqa_asks_with_its_choices_and_leaves_out_rows_without_image(tmp_path):
    features = Features(
        image=ImageFeature(), question=Value("string"), choices=List(Value("string")), answer=Value("int8"),
    )  # fmt: skip
    rows = [
        {"image": None if n % 2 else picture(n), "question": f"Which is {n}?", "choices": ["ice", "fire"],
         "answer": n // 2 % 2}
        for n in range(24)
    ]  # fmt: skip
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "train.parquet")
    splits = load_questions(tmp_path, preset="scienceqa")
    assert sum(len(part) for part in parts_of(splits)) == 12
    assert "train.parquet: 12 of 24 rows have no image and are left out" in splits.notes
    assert "Which is 0? Choices: ice; fire." in {text for part in parts_of(splits) for text in part.texts}
    for part in parts_of(splits):
        for text, (answer,) in zip(part.text_rows, part.answers, strict=True):
            number = int(part.texts[text].split()[2].rstrip("?"))
            assert answer == ["ice", "fire"][number // 2 % 2]


def test_scienceqa_with_an_answer_that_is_no_choice(tmp_path):
    rows = [{"image": picture(n), "question": "Which?", "choices": ["ice"], "answer": n % 2} for n in range(12)]
    with pytest.raises(ValueError, match=r"6 bad rows: rows, row 2: the answer is empty"):
        load_questions(Dataset.from_list(rows), preset="scienceqa")


def test_daquar_keeps_answers_of_one_word(tmp_path):
    write_pictures(tmp_path, 20)
    rows = [(f"{n}.png", "what is it", "lamp" if n % 2 else "chair", 1) for n in range(12)]
    write_csv(
        tmp_path / "questions_train.csv",
        [*rows, ("0.png", "what", '"book, pen"', 2)],
        ("file_name", "question", "answer", "num_answers"),
    )
    write_csv(
        tmp_path / "questions_test.csv",
        [("15.png", "what", "lamp"), ("16.png", "what", '"book, pen"')],
        ("file_name", "question", "answer"),
    )
    write_csv(tmp_path / "questions_reduced37_train.csv", rows[:4], ("file_name", "question", "answer", "num_answers"))
    splits = load_questions(tmp_path, preset="daquar")
    assert [len(part) for part in parts_of(splits)] == [10, 2, 1]
    assert sorted(splits.answers.names) == ["chair", "lamp"]
    assert "questions_train.csv: the preset keeps 12 of 13 rows" in splits.notes


def test_easy_vqa_has_its_own_test_split():
    pytest.importorskip("easy_vqa")
    splits = load_questions("easy-vqa", train_split="train[:2000]")
    assert len(splits.test) == 9673
    assert len(splits.answers.names) == 13
    with pytest.raises(ValueError, match="preset easy-vqa reads its package"):
        load_questions("elsewhere", preset="easy-vqa")


def test_imagefolder_reads_metadata_alone(tmp_path):
    write_pictures(tmp_path, 12)
    write_csv(
        tmp_path / "metadata.csv", [(f"{n}.png", "cat" if n % 2 else "dog") for n in ROWS], ("file_name", "label")
    )
    write_csv(tmp_path / "notes.csv", [("a",)], ("remark",))
    with pytest.raises(ValueError, match=r"several tables with no split in their names: metadata\.csv, notes\.csv"):
        load_questions(tmp_path)
    assert load_questions(tmp_path, preset="imagefolder").answers.names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("folder", "preset"),
    [
        ("lmms-lab__VQAv2", "vqav2"), ("lmms-lab__GQA", "gqa"), ("Multimodal-Fatima__SNLI-VE_train", "snli-ve"),
        ("derek-thomas__ScienceQA", "scienceqa"),
    ],
)  # fmt: skip
def test_files_with_the_columns_of_the_hub(folder, preset):
    if not (SHARED / "hub_schemas" / folder).is_dir():
        pytest.skip("the files with Hub schemas are not here")
    read = read_questions(SHARED / "hub_schemas" / folder, preset=preset)
    assert not read.bad
    assert read.rows["train"]
    for row in read.rows["train"]:
        assert row.question
        assert all(isinstance(answer, str) and not answer.isdecimal() for answer in row.answers)


def test_daquar_as_published():
    if not (SHARED / "daquar").is_dir():
        pytest.skip("DAQUAR is not here")
    splits = load_questions(SHARED / "daquar", preset="daquar")
    assert len(splits.train) + len(splits.validation) == 6149
    assert len(splits.test) == 5076
    assert len({str(image) for part in parts_of(splits) for image in part.images}) > 1400


def test_every_preset_has_its_row_in_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "questions.md").read_text()
    guide = guide.split("## Known data sets")[1].split("##")[0]
    assert [line.split("`")[1] for line in guide.splitlines() if line.startswith("| `")] == list(PRESETS)
    for preset in PRESETS.values():
        assert all(name in guide for name in preset.hub)
