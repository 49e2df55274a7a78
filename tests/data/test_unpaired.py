import json

import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image as Picture

from otmerge_hf.data import load_images, load_texts


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for color in ("red", "green", "blue"):
        Picture.new("RGB", (8, 8), color).save(folder / "deeper" / f"{color}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_images_below_a_folder(pictures):
    assert [path.name for path in load_images(str(pictures))] == ["blue.png", "green.png", "red.png"]


def test_images_of_a_data_set_are_each_once_and_in_order(pictures, tmp_path):
    paths = sorted(pictures.rglob("*.png"))
    rows = [{"bytes": path.read_bytes(), "path": None} for path in (*paths[::-1], paths[0])]
    file = tmp_path / "rows.parquet"
    data = Dataset.from_dict({"picture": [*rows, None]}).cast_column("picture", ImageFeature())
    data.to_parquet(file)
    images = load_images(file)
    assert [image.getpixel((0, 0)) for image in images] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_lines_of_a_file_are_each_once(tmp_path):
    for name in ("texts.txt", "texts.captions"):
        (tmp_path / name).write_text("a dog\n\n  a cat \na dog\n")
        assert load_texts(tmp_path / name) == ["a dog", "a cat"]


@pytest.mark.parametrize("column", [None, "captions"])
@pytest.mark.parametrize("captions", [["a dog", " a cat"], [{"raw": "a dog"}, {"raw": "a cat"}]])
def test_captions_of_a_data_set_are_each_once(tmp_path, column, captions):
    (tmp_path / "rows.jsonl").write_text("\n".join([json.dumps({"captions": captions})] * 2))
    assert load_texts(tmp_path / "rows.jsonl", column=column) == ["a dog", "a cat"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "\n \n", "has no text"),
        ("rows.jsonl", '{"title": "a dog"}', "no column of captions was found"),
        ("rows.json", '{"text": " "}', "has no text"),
    ],
)
def test_a_source_without_texts_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_texts(tmp_path / name)


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(OSError, match=r"gone\.txt"):
        load_texts(tmp_path / "gone.txt")
    with pytest.raises(ValueError, match=r"no such file or folder: .*gone\.parquet"):
        load_images(tmp_path / "gone.parquet")


def test_a_source_without_images_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a dog"}')
    with pytest.raises(ValueError, match="no column of images was found"):
        load_images(tmp_path / "rows.jsonl")
