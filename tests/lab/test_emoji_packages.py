"""The emoji benchmark's folder, made from a tiny copy of the two packages' layout."""

import csv
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from datasets import load_dataset
from PIL import Image

from benchmarks.tasks import emoji_packages


# hexcode -> (name, keywords, picture's file name)
EMOJI = {
    "1F361": ("dango", ["dessert", "sweet"], "1f361.png"),
    "2764-FE0F": ("red heart", ["love"], "2764-fe0f.png"),
    "1F499": ("blue heart", [], "1f499.png"),
    "1F3D5-FE0F": ("camping", ["camping"], "1f3d5-fe0f.png"),
    "1F1F2-1F1EA": ("flag: Montenegro", ["ME", "flag"], "1f1f2-1f1ea.png"),
    "1F4D8": ("blue book", ["reading"], "1f4d8.png"),
    "26F2": ("fountain", ["water"], "26f2.png"),
}


@pytest.fixture
def trees(tmp_path):
    pictures, words = tmp_path / "pictures", tmp_path / "words"
    (pictures / "img" / "google" / "64").mkdir(parents=True)
    (words / "en").mkdir(parents=True)
    drawn = [
        {"unified": code, "image": file, "category": "Flags" if "flag" in name else "Objects", "subcategory": "other"}
        for code, (name, _, file) in EMOJI.items()
    ]
    nameless, without_picture = drawn[0] | {"unified": "1F999"}, drawn[0] | {"unified": "1F998", "image": "none.png"}
    (pictures / "emoji.json").write_text(json.dumps([*drawn, nameless, without_picture]))
    # The second package leaves variation selectors out where the first has them.
    named = [
        {"hexcode": code.replace("-FE0F", ""), "label": name, "emoji": name[0]} | ({"tags": tags} if tags else {})
        for code, (name, tags, _) in EMOJI.items()
    ]
    (words / "en" / "data.json").write_text(json.dumps([*named, named[0] | {"hexcode": "1F998"}]), encoding="utf-8")
    for _, _, file in EMOJI.values():
        picture = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        picture.putpixel((3, 4), (255, 0, 0, 255))
        picture.save(pictures / "img" / "google" / "64" / file)
    return pictures, words


def read(folder):
    rows = {}
    for split in ("train", "validation", "test"):
        with (folder / split / "metadata.csv").open(encoding="utf-8") as file:
            rows |= {row["file_name"]: row | {"split": split} for row in csv.DictReader(file)}
    return rows


def test_rows_pictures_and_splits(trees, tmp_path):
    folder = tmp_path / "emoji"
    emoji_packages.write_folder(*trees, folder)
    rows = read(folder)
    assert len(rows) == len(EMOJI)  # neither the one without a name nor the one without a picture
    assert rows["1f361.png"]["text"] == "dango: dessert, sweet"
    assert rows["1f361.png"]["keywords"] == "dessert|sweet"
    assert rows["1f3d5.png"]["text"] == "camping"  # a keyword that repeats the name is dropped
    assert rows["1f499.png"]["keywords"] == ""
    assert rows["1f1f2-1f1ea.png"]["category"] == "Flags"
    assert rows["2764.png"]["split"] == rows["1f499.png"]["split"]  # both are hearts
    with Image.open(folder / rows["2764.png"]["split"] / "2764.png") as picture:
        assert picture.mode == "RGB"
        assert picture.getpixel((0, 0)) == (255, 255, 255)
        assert picture.getpixel((3, 4)) == (255, 0, 0)


def test_folder_loads_as_imagefolder(trees, tmp_path):
    folder = tmp_path / "emoji"
    emoji_packages.write_folder(*trees, folder)
    data = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert sum(len(data[split]) for split in data) == len(EMOJI)
    assert min(len(data[split]) for split in ("train", "validation", "test")) > 0
    assert {"image", "name", "keywords", "text", "category"} <= set(data["train"].column_names)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("woman running: facing right", "person running:"),
        ("man running: facing right", "person running:"),
        ("people wrestling", "person wrestling"),
        ("couple with heart: woman, man", "family/couple"),
        ("smiling face with heart-eyes", "smiling face with heart-eyes"),
        ("seven-thirty", "clock face"),
        ("white medium-small square", "geometric"),
    ],
)
def test_variants_share_a_concept(name, group):
    assert emoji_packages.concept(name) == group


def test_split_is_the_same_everywhere():
    # Written out once: a changed hash would move emoji between training and test.
    found = {name: emoji_packages.split_of(name) for name in ("dango", "blue book", "fountain", "heart")}
    assert found == {"dango": "train", "blue book": "test", "fountain": "validation", "heart": "train"}


def test_without_npm_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"npm is not installed: install Node\.js, or pass --emoji"):
        emoji_packages.emoji_folder(tmp_path)


def test_only_what_is_needed_is_unpacked_once(trees, tmp_path, monkeypatch):
    calls = []

    def pack(command, cwd, **_):
        calls.append(command)
        with tarfile.open(Path(cwd) / "words.tgz", "w:gz") as archive:
            archive.add(trees[1] / "en" / "data.json", "package/en/data.json")
            archive.add(trees[1] / "en" / "data.json", "package/de/data.json")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(emoji_packages.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(emoji_packages.subprocess, "run", pack)
    tree = emoji_packages.fetch("emojibase-data", tmp_path / "npm")
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()) == ["en/data.json"]
    assert emoji_packages.fetch("emojibase-data", tmp_path / "npm") == tree
    assert len(calls) == 1
