"""Known sets of images with captions by name, from tiny files of their true schemas."""

import io
import json
import tarfile
from pathlib import Path

import hub_schemas
import pytest
from datasets import Dataset
from question_folders import picture, write_pictures

from otmerge_hf.data import CAPTION_PRESETS, load_pair_splits, load_pairs, load_source
from otmerge_hf.data.caption_presets import find_caption_preset
from otmerge_hf.data.caption_sources import CaptionSource


SHARED = Path(__file__).parents[3] / "shared" / "data"
WORDS = ["train"] * 8 + ["restval"] * 4 + ["val"] * 3 + ["test"] * 3


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


def coco(n, caption=0):
    sentence = {"tokens": ["a", "dog"], "raw": f"A dog {n} {caption}.", "imgid": n, "sentid": 5 * n + caption}
    names = {"filepath": "val2014", "filename": f"{n}.png", "imgid": n, "split": WORDS[n], "cocoid": 100 + n}
    return {**names, "sentids": [5 * n + k for k in range(2)], "sentences": sentence}


def numbers(split):
    """First pixel of each image, which names it, and the numbers in the texts of its captions."""
    found = {}
    for image, text in split.pairs.tolist():
        pixel = split.images[image]
        pixel = int(pixel.stem) if isinstance(pixel, Path) else pixel.getpixel((0, 0))[0]
        found.setdefault(pixel, []).append(int(split.texts[text].split()[2].rstrip(".")))
    return found


def test_karpathys_splits_in_a_column_and_a_row_for_each_caption(tmp_path):
    rows = [coco(n, k) | {"image": picture(n)} for n in range(18) for k in range(2)]
    Dataset.from_list(rows).to_parquet(tmp_path / "coco.parquet")
    splits = load_pair_splits(tmp_path / "coco.parquet", preset="coco-karpathy")
    expected = {"train": range(12), "validation": range(12, 15), "test": range(15, 18)}
    for name, images in expected.items():
        assert numbers(splits[name]) == {n: [n, n] for n in images}
        assert len(splits[name].images) == len(images)
    assert str(splits["train"]).endswith("from train")
    assert len(load_pairs(tmp_path / "coco.parquet", "test", preset="coco-karpathy")) == 6
    with pytest.raises(ValueError, match="split 'dev' is not in 'split'; it has train, validation, test"):
        load_pairs(tmp_path / "coco.parquet", "dev", preset="coco-karpathy")


def test_splits_of_the_source_itself_go_before_the_column(tmp_path):
    for name, some in (("train", range(12)), ("validation", range(12, 15)), ("test", range(15, 18))):
        Dataset.from_list([coco(n) | {"image": picture(n)} for n in some]).to_parquet(tmp_path / f"{name}.parquet")
    splits = load_pair_splits(tmp_path, preset="coco-karpathy")
    assert [len(split.images) for split in splits.values()] == [12, 3, 3]  # `restval` is in train


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_karpathys_own_files_name_pictures_in_a_folder(tmp_path, kind):
    write_pictures(tmp_path / "coco" / "val2014", 18)
    rows = [coco(n) | {"sentences": [coco(n, k)["sentences"] for k in range(2)]} for n in range(18)]
    (tmp_path / "tables").mkdir()
    if kind == "json":
        file = tmp_path / "tables" / "dataset_coco.json"
        file.write_text(json.dumps({"images": rows, "dataset": "coco"}))
    else:  # as yerevann/coco-karpathy has them
        file = tmp_path / "tables" / "rows.parquet"
        plain = [row | {"sentences": [s["raw"] for s in row["sentences"]], "url": "http://x.invalid"} for row in rows]
        Dataset.from_list(plain).to_parquet(file)
    splits = load_pair_splits(file, preset="coco-karpathy", image_folder=tmp_path / "coco")
    assert [len(split.images) for split in splits.values()] == [12, 3, 3]
    assert numbers(splits["test"]) == {n: [n, n] for n in range(15, 18)}
    assert splits["test"].images[0] == tmp_path / "coco" / "val2014" / "15.png"
    with pytest.raises(ValueError, match=r"'image_path' names no file .*val2014/0\.png"):
        load_pair_splits(file, preset="coco-karpathy")


def test_flickr30k_with_a_column_of_splits_and_without(tmp_path):
    words = ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    rows = [hub_schemas.flickr30k(n, split=word) | {"image": picture(n)} for n, word in enumerate(words)]
    Dataset.from_list(rows).to_parquet(tmp_path / "test.parquet")
    splits = load_pair_splits(tmp_path / "test.parquet", preset="flickr30k")
    assert [(len(split.images), len(split.pairs)) for split in splits.values()] == [(8, 40), (2, 10), (2, 10)]
    bare = [{name: value for name, value in row.items() if name != "split"} for row in rows]
    Dataset.from_list(bare).to_parquet(tmp_path / "bare.parquet")
    splits = load_pair_splits(tmp_path / "bare.parquet", preset="flickr30k")
    assert [len(split.images) for split in splits.values()] == [10, 1, 1]
    assert "held out of train" in splits["test"].origin


def test_any_column_may_hold_the_splits(tmp_path):
    rows = [{"image": picture(n), "text": f"picture {n}", "part": "train" if n < 9 else "dev"} for n in range(12)]
    file = tmp_path / "rows.parquet"
    Dataset.from_list(rows).to_parquet(file)
    splits = load_pair_splits(file, split_column="part")
    assert [len(split.images) for split in splits.values()] == [8, 3, 1]
    for column, message in (("parts", "split_column names column 'parts'; the columns"), ("text", "holds picture 0")):
        with pytest.raises(ValueError, match=message):
            load_pair_splits(file, split_column=column)


def write_shard(path, rows):
    with tarfile.open(path, "w") as archive:
        for row in rows:
            pixels = io.BytesIO()
            picture(row).save(pixels, "PNG")
            about = json.dumps({"key": row, "caption": None if row else "x"}).encode()
            for kind, data in {"jpg": pixels.getvalue(), "txt": f"the thing {row}".encode(), "json": about}.items():
                entry = tarfile.TarInfo(f"{row:09}.{kind}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


def test_cc3m_is_read_as_a_stream_up_to_a_count(tmp_path):
    folder = tmp_path / "cc3m"
    folder.mkdir()
    write_shard(folder / "cc3m-train-0000.tar", range(20))
    (folder / "cc3m-train-0001.tar").write_bytes(b"never looked at")
    with pytest.raises(ValueError, match=r"cannot be read|could not be opened"):
        load_source(folder)
    splits = load_pair_splits(folder, preset="cc3m", limit=12)
    assert [len(split.images) for split in splits.values()] == [10, 1, 1]
    every = {n: [n] for n in range(12)}
    assert {n: words for split in splits.values() for n, words in numbers(split).items()} == every
    write_shard(folder / "cc3m-train-0000.tar", range(40, 60))  # other content under the name is read anew
    assert load_pairs(folder, preset="cc3m", limit=2)["text"][:] == ["the thing 40", "the thing 41"]
    with pytest.raises(ValueError, match=r"'train\[:5\]' is a slice, which a stream has not; pass the"):
        load_pairs(folder, "train[:5]", preset="cc3m", limit=2)


def test_a_stream_of_anything_else_keeps_every_column(tmp_path):
    rows = [{"image": picture(n), "says": f"picture {n}", "kind": "ab"[n % 2]} for n in range(12)]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    found = load_pairs(tmp_path / "rows.parquet", text_column="says", filters=["kind=a"], limit=5)
    assert found["text"][:] == ["picture 0", "picture 2", "picture 4"]


def test_what_does_not_fit_is_said_before_any_work():
    with pytest.raises(ValueError, match="'pixparse/cc3m-wds' has millions of rows; pass `limit`, how many"):
        load_pair_splits("cc3m")
    with pytest.raises(ValueError, match="`limit` is 0; expected the number of rows to read"):
        load_pairs("cc3m", limit=0)
    with pytest.raises(ValueError, match="`preset` is 'coco'; expected one of coco-karpathy, flickr30k, cc3m"):
        load_pairs("x", preset="coco")


def test_a_name_on_the_hub_brings_its_preset(tmp_path):
    for name, preset in CAPTION_PRESETS.items():
        assert find_caption_preset(name) == (preset.hub[0], preset)
        assert all(find_caption_preset(hub) == (hub, preset) for hub in preset.hub)
    assert find_caption_preset(str(tmp_path))[1].hub == ()


@pytest.mark.parametrize(
    ("folder", "preset", "captions"),
    [
        ("bitmind__MS-COCO-unique", "coco-karpathy", 1), ("umaru97__flickr30k_train_val_test", "flickr30k", 5),
        ("lmms-lab__flickr30k", "flickr30k", 5), ("pixparse__cc3m-wds", "cc3m", 1),
    ],
)  # fmt: skip
def test_files_with_the_columns_of_the_hub(folder, preset, captions):
    if not (SHARED / "hub_schemas" / folder).is_dir():
        pytest.skip("the files with Hub schemas are not here")
    source = SHARED / "hub_schemas" / folder
    (split,) = CaptionSource.of(source, preset).splits
    pairs = load_pairs(source, split, preset=preset, limit=3 if preset == "cc3m" else None)
    assert len(pairs) == captions * len(set(pairs["group"]))


def test_every_preset_has_its_row_in_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "questions.md").read_text()
    table = guide.split("## Known sets of captions")[1].split("##")[0]
    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == list(CAPTION_PRESETS)
    assert all(name in table for preset in CAPTION_PRESETS.values() for name in preset.hub)
