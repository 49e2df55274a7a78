"""Emoji pictures, names and keywords out of two npm packages, as a folder that `datasets` reads as "imagefolder".

In: emoji-datasource-google (pictures) and emojibase-data (names and keywords), fetched with `npm pack`.
Out: train / validation / test, each with 64x64 pictures on white and metadata.csv, 1,911 emoji without skin tones.

The split goes by concept, so that near copies of a picture never lie in two splits, and by a hash of the concept's
name, so that it is the same everywhere: 1,377 / 194 / 340 emoji. Flags are among them.
"""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from PIL import Image


# package -> (version, folder or file in it that is needed)
PACKAGES = {
    "emoji-datasource-google": ("16.0.0", ("package/emoji.json", "package/img/google/64/")),
    "emojibase-data": ("17.0.0", ("package/en/data.json",)),
}
COLUMNS = ("file_name", "name", "keywords", "text", "group", "category", "subcategory", "emoji")
# Concepts of many variants; the first pattern that is found in the name decides.
CONCEPTS = (
    ("keycap", r"^keycap"),
    ("clock face", r"o.clock$|-thirty$"),
    ("moon", r"\bmoon\b"),
    ("family/couple", r"^family|^couple|^kiss|holding hands"),
    ("heart", r"\bhearts?\b(?!-)"),
    ("geometric", r"\b(circle|square|diamond|triangle)\b"),
    ("claus", r"\bclaus\b"),
    ("royal", r"^prince|^person with crown"),
    ("merperson", r"^mer(maid|man|person)$"),
)


def emoji_folder(cache: Path) -> Path:
    """The folder of emoji below `cache`, made on the first call.

    Raises:
        RuntimeError: If npm is missing or cannot fetch the packages.
    """
    target = cache / "emoji"
    if not target.is_dir():
        pictures, words = (fetch(package, cache / "npm") for package in PACKAGES)
        write_folder(pictures, words, target)
    return target


def fetch(package: str, cache: Path) -> Path:
    """What is needed of an npm package, unpacked below `cache`."""
    version, needed = PACKAGES[package]
    tree = cache / f"{package}-{version}"
    if tree.is_dir():
        return tree
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(
            f"The emoji come from the npm package {package}, and npm is not installed: install Node.js, or pass "
            "--emoji with an imagefolder of splits train, validation and test, each with 64x64 pictures "
            f"and a metadata.csv ({', '.join(COLUMNS)})."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [npm, "pack", "--silent", f"{package}@{version}"]
        done = subprocess.run(command, cwd=scratch, text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {' '.join(done.stderr.split())}")
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
            members = [member for member in archive if member.name.startswith(needed)]
            archive.extractall(scratch, members, filter="data")
        os.rename(Path(scratch) / "package", tree)
    return tree


def write_folder(pictures: Path, words: Path, target: Path) -> None:
    """Write the imagefolder from the two unpacked packages; it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "emoji"
        splits: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
        for source, row in read_packages(pictures, words):
            split = split_of(row["group"])
            folder = made / split
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(source) as picture:
                on_white = Image.new("RGBA", picture.size, "white")
                on_white.alpha_composite(picture.convert("RGBA"))
            on_white.convert("RGB").save(folder / row["file_name"])
            splits[split].append(row)
        for split, rows in splits.items():
            (made / split).mkdir(parents=True, exist_ok=True)
            with (made / split / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        made.rename(target)


def read_packages(pictures: Path, words: Path) -> list[tuple[Path, dict]]:
    """Picture and row of every emoji that has both a picture and a name."""
    named = {_key(entry["hexcode"]): entry for entry in json.loads((words / "en" / "data.json").read_text("utf-8"))}
    rows = []
    for drawn in json.loads((pictures / "emoji.json").read_text("utf-8")):
        key, source = _key(drawn["unified"]), pictures / "img" / "google" / "64" / Path(drawn["image"]).name
        if key not in named or not source.is_file():
            continue
        name = named[key]["label"]
        # A keyword that repeats the name says nothing more.
        keywords = [tag for tag in named[key].get("tags", []) if tag.lower() != name.lower()]
        row = {
            "file_name": f"{key}.png",
            "name": name,
            "keywords": "|".join(keywords),
            "text": f"{name}: {', '.join(keywords)}" if keywords else name,
            "group": concept(name),
            "category": drawn["category"],
            "subcategory": drawn["subcategory"],
            "emoji": named[key]["emoji"],
        }
        rows.append((source, row))
    return rows


def concept(name: str) -> str:
    """What an emoji's variants (gender, direction, hour, colour of a shape or heart) have in common.

    Example:
        >>> concept("woman running: facing right"), concept("man: bald"), concept("two hearts"), concept("dango")
        ('person running:', 'person bald', 'heart', 'dango')
    """
    name = name.lower()
    for group, pattern in CONCEPTS:
        if re.search(pattern, name):
            return group
    someone = re.sub(r"\b(men|women|man|woman|boy|girl|child|people|person|old)\b:?", "person", name)
    return someone.replace(" facing right", "")


def split_of(group: str) -> str:
    """Split of a concept: about 70, 10 and 20 of a hundred."""
    share = int.from_bytes(hashlib.sha256(f"otmerge{group}".encode()).digest()[:8]) / 2**64
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"


def _key(code: str) -> str:
    """Code points without variation selectors, on which the two packages differ."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")
