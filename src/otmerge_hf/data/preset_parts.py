"""Sources whose tables have to be put together first: GQA's two configurations, easy-VQA's package, image folders."""

import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import get_dataset_config_names

from .easy_vqa import load_easy_vqa
from .part_choice import join_tables
from .sources import load_source, split_names
from .table_parts import Part, find_parts, role_of
from .tables import Table, dataset_table, read_table


_GQA = re.compile(r"(?P<split>\w+?)_(?P<kind>images|instructions)")


def gqa_parts(source: Any, options: dict[str, Any]) -> list[Part]:
    """GQA: every split whose images and instructions are both there, joined by the image's number.

    Args:
        source: A folder of parquet files that are named, or lie in folders that are named, by configuration
            (`train_balanced_images`, `train_balanced_instructions`), or the name on the Hub.
        options: For `datasets.load_dataset`.

    Raises:
        ValueError: If no split has both.
    """
    readers: dict[str, dict[str, list[Callable[[], Table]]]] = defaultdict(lambda: defaultdict(list))
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        for file in sorted(Path(source).rglob("*.parquet")):
            name = file.relative_to(source).as_posix()
            if match := _GQA.search(name):
                readers[match["split"]][match["kind"]].append(partial(read_table, file, name=name))
    else:
        for name in get_dataset_config_names(str(source)):
            if match := _GQA.fullmatch(name):
                readers[match["split"]][match["kind"]].append(partial(_only_split, source, name, options))
    both = {split: kinds for split, kinds in readers.items() if len(kinds) == 2}
    if not both:
        raise ValueError(
            f"{source}: no split of GQA is here; expected parquet files named SPLIT_images and SPLIT_instructions"
        )
    return [
        Part((split,), role_of(split), partial(_join_gqa, split, kinds["instructions"], kinds["images"]))
        for split, kinds in both.items()
    ]


def easy_vqa_parts(source: Any, options: dict[str, Any]) -> list[Part]:
    """easy-VQA's own two splits, from its PyPI package.

    Raises:
        ValueError: If the source is anything but its name.
    """
    if source != "easy-vqa":
        raise ValueError(f"preset easy-vqa reads its package; expected 'easy-vqa' as the source, got {str(source)!r}")
    return [Part((split,), split, partial(_easy_vqa, split)) for split in ("train", "test")]


def metadata_parts(source: Any, options: dict[str, Any]) -> list[Part]:
    """An image folder: its `metadata` files alone, whatever other tables lie there; or a folder for each class.

    Raises:
        ValueError: If the source is no folder.
    """
    root = Path(source)
    if not root.is_dir():
        raise ValueError(f"preset imagefolder reads a folder; there is none called {str(source)!r}")
    files = [file for file in sorted(root.rglob("metadata.*")) if file.suffix in (".csv", ".jsonl", ".parquet")]
    if not files:
        names = split_names(source, **options)
        return [Part((name,), role_of(name), partial(_hub_split, source, name, options)) for name in names]
    return [part for file in files for part in _renamed(find_parts([file]), file.relative_to(root).as_posix())]


def _renamed(parts: list[Part], name: str) -> list[Part]:
    return [replace(part, names=(name, *part.names), role=part.role or role_of(name)) for part in parts]


def _easy_vqa(split: str) -> Table:
    table = dataset_table(load_easy_vqa(split), f"easy-vqa {split}")
    return replace(table, columns={name: table.columns[name] for name in ("image", "question", "answer")})


def _only_split(source: str, name: str, options: dict[str, Any]) -> Table:
    options = options | {"name": name}
    return _hub_split(source, split_names(source, **options)[0], options)


def _hub_split(source: str, split: str, options: dict[str, Any]) -> Table:
    return dataset_table(load_source(source, split, **options), split)


def _join_gqa(split: str, instructions: list[Callable[[], Table]], images: list[Callable[[], Table]]) -> Table:
    table, *more = [read() for read in instructions]
    table = join_tables(table, more) if more else table
    image_of: dict[str, Any] = {}
    for read in images:
        own = read()
        image_of |= dict(zip(own.columns["id"], own.columns["image"], strict=True))
    # A number without an image stays, and is told as an image that is not found.
    column = [image_of.get(number, number) for number in table.columns["imageId"]]
    return replace(table, name=split, columns=table.columns | {"image": column}, images=("image",))
