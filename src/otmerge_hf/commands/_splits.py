"""Image-caption pairs of three splits -> distinct images, distinct texts, and who belongs to whom."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor

from ..data import ImageInputs, index_distinct, load_pairs, split_names


VALIDATION_NAMES = ("validation", "valid", "val", "dev")
# Share of the images that validation and test each take where the source has no such split.
HELD_OUT = 0.1
_FEWEST_IMAGES = 6


@dataclass(frozen=True)
class PairSplit:
    """One split.

    Attributes:
        images: N distinct images.
        texts: M distinct texts.
        pairs: (P, 2) long: image, text.
        origin: Where it came from, for the report.
    """

    images: ImageInputs
    texts: list[str]
    pairs: Tensor
    origin: str


def load_splits(arguments: Namespace) -> dict[str, PairSplit]:
    """Splits ``train``, ``validation`` and ``test`` as the command line asks for them.

    A split that the source lacks is taken from the training images: a tenth of them, whole images with all
    their captions.

    Raises:
        ValueError: If the source cannot be read, a split does not exist, or too few images are left.
    """
    options = {"name": arguments.config_name} if arguments.config_name else {}
    names = split_names(arguments.pairs, **options)
    train = arguments.train_split or ("train" if "train" in names else names[0])
    asked = {
        "validation": arguments.validation_split or _first(VALIDATION_NAMES, names, train),
        "test": arguments.test_split or _first(("test",), names, train),
    }

    def load(split: str) -> Dataset:
        columns = {name: getattr(arguments, name) for name in ("image_column", "text_column", "group_column")}
        return load_pairs(arguments.pairs, split, filters=arguments.filter, **columns, **options)

    everything = load(train)
    left = torch.randperm(
        max(everything["group"]) + 1, generator=torch.Generator().manual_seed(arguments.seed)
    ).tolist()
    share = max(int(len(left) * HELD_OUT), 1)
    splits = {}
    for name, split in asked.items():
        if split is None:
            held, left = left[:share], left[share:]
            splits[name] = _select(everything, held, f"{len(held)} images held out of {train}")
        else:
            rows = load(split)
            splits[name] = _select(rows, sorted(set(rows["group"])), split)
    if len(left) < _FEWEST_IMAGES:
        raise ValueError(f"pairs: {len(left)} training images are left in {train!r}; {_FEWEST_IMAGES} are the least")
    return {"train": _select(everything, sorted(left), train), **splits}


def _first(wanted: Sequence[str], names: Sequence[str], train: str) -> str | None:
    return next((name for name in wanted if name in names and name != train), None)


def _select(rows: Dataset, groups: list[int], origin: str) -> PairSplit:
    place = {group: image for image, group in enumerate(groups)}
    first: dict[int, int] = {}
    pairs, texts = [], []
    for row, (group, text) in enumerate(zip(rows["group"][:], rows["text"][:], strict=True)):
        if group in place:
            first.setdefault(group, row)
            pairs.append(place[group])
            texts.append(text)
    distinct, text_ids = index_distinct(texts)
    images = ImageInputs(rows, [first[group] for group in groups])
    return PairSplit(images, distinct, torch.tensor(list(zip(pairs, text_ids, strict=True))), origin)
