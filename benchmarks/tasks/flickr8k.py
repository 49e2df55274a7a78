"""Flickr8k (Hodosh, Young and Hockenmaier 2013): photographs with five captions each, in the official split.

In: a folder `flickr8k` with `train`, `validation` and `test`, each with photographs and `metadata.jsonl`, a line a
photograph: `file_name`, `captions` (a list). Out: the task of retrieval, and pairs to align other tasks with.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from otmerge_hf.data import index_distinct
from otmerge_hf.features import FeatureStore

from ..runner.encoding import encoder_folders
from ..runner.recipe import Recipe
from .features import encode_lists
from .task import Rows


SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Captioned:
    """A photograph, the split it is in, and its captions."""

    file: Path
    split: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class RetrievalTask:
    """Photographs and captions that belong together.

    Attributes:
        context_encoder: Folder of the encoder of photographs.
        query_encoder: The same of captions.
        contexts: The photographs' files; rows name them by number.
        queries: The distinct captions.
        context_store: Features of `contexts`.
        query_store: Features of `queries`.
        splits: Per split a row a caption, in groups by photograph.
    """

    context_encoder: str
    query_encoder: str
    contexts: list[str]
    queries: list[str]
    context_store: FeatureStore
    query_store: FeatureStore
    splits: dict[str, Rows]


def read_photographs(data: Path) -> list[Captioned]:
    """Every photograph of the three splits, in the order of the files.

    Raises:
        FileNotFoundError: If a split's `metadata.jsonl` is missing.
    """
    found = []
    for split in SPLITS:
        folder = data / "flickr8k" / split
        for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append(Captioned(folder / row["file_name"], split, tuple(row["captions"])))
    return found


def caption_rows(
    photographs: list[Captioned], chosen: Collection[int], first_context: int = 0, first_query: int = 0
) -> tuple[Rows, list[str]]:
    """Rows of some photographs' captions, in groups by photograph; and the distinct captions of all photographs.

    Args:
        photographs: All of them, in the order of their features.
        chosen: Numbers of those whose captions make rows.
        first_context: Number that the first photograph has among the contexts.
        first_query: The same of the first caption among the queries.
    """
    owners = [number for number, photograph in enumerate(photographs) for _ in photograph.captions]
    texts, places = index_distinct(text for photograph in photographs for text in photograph.captions)
    kept, wanted = set(chosen), []
    for owner, place in zip(owners, places, strict=True):
        if owner in kept:
            wanted.append((first_context + owner, first_query + place))
    contexts, queries = [context for context, _ in wanted], [query for _, query in wanted]
    return Rows(contexts, queries, groups=contexts), texts


def load_flickr8k(recipe: Recipe, data: Path, cache_dir: Path, scratch: Path | None = None) -> RetrievalTask:
    """Read the photographs, and encode what is not in the cache.

    Args:
        recipe: Its encoders, image size and tokens.
        data: Folder of the data sets.
        cache_dir: Where features are kept.
        scratch: Not used; every loader takes it.
    """
    photographs = read_photographs(data)
    splits = {}
    for split in SPLITS:
        numbers = [number for number, photograph in enumerate(photographs) if photograph.split == split]
        splits[split], texts = caption_rows(photographs, numbers)
    files = [photograph.file for photograph in photographs]
    stores = encode_lists(recipe, [files], [texts], cache_dir)
    return RetrievalTask(*encoder_folders(recipe), [str(file) for file in files], texts, *stores, splits)
