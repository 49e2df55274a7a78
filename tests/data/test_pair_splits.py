import json
from pathlib import Path

import pytest
import torch
from PIL import Image as Picture

from otmerge_hf.data import PairSplit, load_pair_splits


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def write(folder, size, first=0, captions=1):
    """Pictures of one grey each; caption k of picture i says so, and every picture has one caption in common."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file_name,text,kind"]
    for i in range(first, first + size):
        Picture.new("RGB", (8, 8), (i, i, i)).save(folder / f"{i:03}.png")
        lines += [f"{i:03}.png,grey {i} {k},{'odd' if i % 2 else 'even'}" for k in range(captions)]
        lines.append(f"{i:03}.png,a picture,both")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def true_pairs(split):
    """(number in the picture's name, text) of each pair."""
    return {(int(Path(split.images[image]).stem), split.texts[text]) for image, text in split.pairs.tolist()}


def test_own_splits_are_taken_whole(tmp_path):
    sizes = {"train": 12, "validation": 4, "test": 5}
    for place, (name, size) in enumerate(sizes.items()):
        write(tmp_path / "data" / name, size, first=100 * place // 2, captions=2)
    splits = load_pair_splits(tmp_path / "data")
    assert {name: len(split.images) for name, split in splits.items()} == sizes
    for split in splits.values():
        numbers = [int(Path(image).stem) for image in split.images]
        expected = {(i, text) for i in numbers for text in (f"grey {i} 0", f"grey {i} 1", "a picture")}
        assert true_pairs(split) == expected
        assert len(split.pairs) == 3 * len(numbers)
        assert len(split.texts) == len(set(split.texts)) == 2 * len(numbers) + 1
    assert str(splits["train"]) == "12 images, 36 captions (25 distinct), from train"


def test_missing_splits_are_whole_images_held_out(tmp_path):
    write(tmp_path / "data", 40)
    splits = load_pair_splits(tmp_path / "data")
    assert [len(splits[name].images) for name in ("train", "validation", "test")] == [32, 4, 4]
    numbers = [int(Path(image).stem) for split in splits.values() for image in split.images]
    assert sorted(numbers) == list(range(40)), "no picture is in two splits"
    assert str(splits["train"]).endswith("from train, the rest of its 40 images with 80 captions")
    assert str(splits["test"]) == "4 images, 8 captions (5 distinct), from 4 images held out of train"
    again, other = load_pair_splits(tmp_path / "data"), load_pair_splits(tmp_path / "data", seed=1)
    assert list(again["test"].images) == list(splits["test"].images) != list(other["test"].images)


def test_a_slice_counts_captions_and_says_how_many_images_they_are(tmp_path):
    write(tmp_path / "data" / "train", 40, captions=4)
    write(tmp_path / "data" / "test", 3)
    splits = load_pair_splits(tmp_path / "data", train_split="train[:100]", validation_split="train[100:150]")
    assert str(splits["train"]) == "20 images, 100 captions (81 distinct), from train[:100]"
    assert len(splits["validation"].images) == 10


def test_filters_columns_and_files_reach_the_rows(tmp_path):
    write(tmp_path / "data", 30)
    rows = [{"picture": f"{i:03}.png", "says": f"grey {i}", "kind": "odd" if i % 2 else "even"} for i in range(30)]
    (tmp_path / "data" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load_pair_splits(
        tmp_path / "data" / "rows.jsonl", image_column="picture", text_column="says", filters=["kind=odd"]
    )
    assert sorted(text for split in splits.values() for text in split.texts) == sorted(
        f"grey {i}" for i in range(1, 30, 2)
    )


def test_too_few_images_are_counted(tmp_path):
    write(tmp_path / "data", 7)
    with pytest.raises(ValueError, match="source: 5 of the 7 images of 'train' are left to train on; 6 are the least"):
        load_pair_splits(tmp_path / "data")


def test_a_split_made_by_hand_counts_itself():
    split = PairSplit(["a.png"], ["one", "two"], torch.tensor([[0, 0], [0, 1]]))
    assert str(split) == "1 images, 2 captions (2 distinct), from memory"


@pytest.mark.parametrize("names_table", [False, True])
@pytest.mark.parametrize("name", ["captions.csv", "metadata.csv"])
def test_a_table_of_any_name_beside_its_pictures(name, names_table, tmp_path):
    write(tmp_path, 12)
    text = (tmp_path / "metadata.csv").read_text().replace("file_name,text", "image,caption")
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / name).write_text(text)
    splits = load_pair_splits(tmp_path / name if names_table else tmp_path)
    assert sum(len(split.images) for split in splits.values()) == 12
    assert {pair for split in splits.values() for pair in true_pairs(split)} >= {(3, "grey 3 0"), (3, "a picture")}


def test_metadata_that_names_no_files_is_said(tmp_path):
    write(tmp_path / "train", 12)
    table = tmp_path / "train" / "metadata.csv"
    table.write_text(table.read_text().replace("file_name,text", "picture,caption"))
    with pytest.raises(ValueError, match=r"`file_name`.* must be present .* in metadata files"):
        load_pair_splits(tmp_path)


def test_which_of_two_tables_is_asked(tmp_path):
    write(tmp_path, 12)
    (tmp_path / "metadata.csv").rename(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("image,caption\n001.png,one\n")
    with pytest.raises(ValueError, match=r"has 2 tables \(a.csv, b.csv\); pass one of them"):
        load_pair_splits(tmp_path)
