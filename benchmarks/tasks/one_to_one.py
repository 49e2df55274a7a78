"""Data sets at hand as pairs of feature rows, each row in one pair: what the suite `forecast` draws from.

In: the name of a set, the folder of data sets, a folder for the cache. Out: features of both sides, row by row. Sets
are not split: new rows are to be like those that a forecast saw.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from otmerge_hf.data import image_paths, index_distinct, load_easy_vqa_statements
from otmerge_hf.features import encode, mean_features
from otmerge_hf.model.modeling_otmerge import OTMergeModel
from otmerge_hf.model.processing_otmerge import OTMergeProcessor

from ..runner.encoding import encoder_folders
from ..runner.recipe import Recipe
from . import emoji
from .features import DTYPE
from .flickr8k import read_photographs
from .photographs import RECIPE


# Wider features are turned to their leading directions, of all rows: a narrower fit is a matter of milliseconds.
WIDTH = 384
NARROW = 256
VIT = RECIPE.replace(context_encoder="vit-small-14", context_tokens="cls")


class Paired(NamedTuple):
    """Features of rows that belong together by place: (N, Dc) and (N, Dq)."""

    context: Tensor
    query: Tensor


def load_one_to_one(name: str, data: Path | None, cache: Path) -> Paired:
    """Load a set of `SETS`; what is not in the cache is encoded.

    Raises:
        ValueError: If there is no such set.
        FileNotFoundError: If the set's folder is missing.
    """
    if name not in SETS:
        raise ValueError(f"`data` is {name!r}; expected one of {', '.join(SETS)}.")
    return Paired(*(_narrowed(side) for side in SETS[name](data, cache)))


def _narrowed(x: Tensor) -> Tensor:
    return x if x.shape[1] <= WIDTH else emoji.principal({"train": x}, NARROW)["train"]


def _flickr8k(data: Path | None, cache: Path, texts_only: bool = False, recipe: Recipe = RECIPE) -> Paired:
    """Photographs with the first of their captions; or, of texts only, the first caption with the second."""
    if data is None:
        raise FileNotFoundError("Flickr8k needs the folder of data sets: --data or OTMERGE_DATA names it.")
    photographs = read_photographs(data)
    first, second = ([one.captions[place % len(one.captions)] for one in photographs] for place in (0, 1))
    if texts_only:
        other = Recipe(query_encoder="minilm-l3")
        sides = _means(RECIPE, "query", first, cache), _means(other, "query", second, cache)
    else:
        files = [one.file for one in photographs]
        sides = _means(recipe, "context", files, cache), _means(recipe, "query", first, cache)
    return Paired(*sides)


def _easy_vqa(data: Path | None, cache: Path, context_encoder: str = "efficientnet-lite0") -> Paired:
    """Pictures of 64 pixels with all that is said truly of one, as one text."""
    recipe, sides = Recipe(context_encoder=context_encoder), list[tuple[Tensor, Tensor]]()
    for split in ("train", "test"):
        rows, files = load_easy_vqa_statements(split, affirmative_only=True), image_paths(split)
        said: dict[int, list[str]] = defaultdict(list)
        for image, text in zip(rows["image_id"], rows["statement"], strict=True):
            said[image].append(text)
        pictures, texts = _means(recipe, "context", files, cache), [", ".join(each) for each in said.values()]
        sides.append((pictures[list(said)], _means(Recipe(), "query", texts, cache)))
    return Paired(*(torch.cat(side) for side in zip(*sides, strict=True)))


def _emoji(data: Path | None, cache: Path, texts_only: bool = False) -> Paired:
    """Pictures of 160 pixels with the emoji's name and keywords; or those texts in the eyes of two encoders."""
    folder = None if data is None else data / "emoji"
    own = cache / "emoji"
    read: Any = emoji.load(folder, [] if texts_only else [160], own)
    other = emoji.load_minilm_l3(folder, own) if texts_only else {}
    texts = torch.cat([read.texts[split]["text"][-1] for split in emoji.SPLITS])
    if texts_only:
        return Paired(torch.cat([other[split]["text"][-1] for split in emoji.SPLITS]), texts)
    return Paired(torch.cat([read.images[160][split]["mean"][-1] for split in emoji.SPLITS]), texts)


def _means(recipe: Recipe, side: str, inputs: list[Path] | list[str], cache: Path) -> Tensor:
    """Mean features of every input, (N, D); a distinct one is encoded once."""
    folders = encoder_folders(recipe)
    processor = OTMergeProcessor.from_encoders_pretrained(*folders)
    model = OTMergeModel.from_encoders_pretrained(
        *folders, context_tokens=recipe.context_tokens, query_tokens=recipe.query_tokens, adapter_type="linear"
    )
    distinct, rows = index_distinct(inputs)
    store = encode(model, processor, side, distinct, cache_dir=cache / "photographs", dtype=DTYPE, verify="size")
    return mean_features(store).float()[rows]


#: Name -> the function that reads it.
SETS: dict[str, Callable[[Path | None, Path], Paired]] = {
    "flickr8k": _flickr8k,
    "flickr8k-vit": lambda data, cache: _flickr8k(data, cache, recipe=VIT),
    "flickr8k-texts": lambda data, cache: _flickr8k(data, cache, texts_only=True),
    "easy-vqa": _easy_vqa,
    "easy-vqa-lite1": lambda data, cache: _easy_vqa(data, cache, "efficientnet-lite1"),
    "easy-vqa-lite2": lambda data, cache: _easy_vqa(data, cache, "efficientnet-lite2"),
    "emoji": _emoji,
    "emoji-texts": lambda data, cache: _emoji(data, cache, texts_only=True),
}
