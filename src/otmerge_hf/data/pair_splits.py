"""A source of image-caption pairs -> training, validation and test split: distinct inputs, and who belongs to whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from ..features.keys import input_hash
from .caption_sources import CaptionSource
from .distinct import index_distinct
from .image_inputs import ImageInputs, Picked
from .pairs import load_pairs
from .question_images import kind_of
from .sources import Source, describe_source
from .table_parts import SPLIT_WORDS


# Of the images, for validation and for test each where the source has no such split; of questions: question_splits.
CAPTIONED_IMAGES_HELD_OUT = 0.1
_FEWEST_IMAGES = 6
_TELLING = 8  # characters of a name: `image3` and `12` are anybody's


@dataclass(frozen=True)
class PairSplit:
    """Image-caption pairs with every image and every text once; `str()` of it counts them.

    `pairs` (P, 2) long names image and text of each pair; an input that no pair names is unpaired. The N `images`, or
    sounds in their place, are as [`features.encode`] takes them; `origin` says in words where they come from,
    `source` of which data ([`data.sources.describe_source`]).

    Example:
        >>> print(PairSplit(["1.png", "2.png"], ["a dog"], torch.tensor([[0, 0], [1, 0]]), "train[:2]"))
        2 images, 2 captions (1 distinct), from train[:2]
    """

    images: Sequence[Any]
    texts: Sequence[str]
    pairs: Tensor
    origin: str = "memory"
    source: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the captions are of: `images` or `sounds`."""
        return kind_of(self.images)

    def __str__(self) -> str:
        counts = f"{len(self.images):,} {self.kind}, {len(self.pairs):,} captions ({len(self.texts):,} distinct)"
        return f"{counts}, from {self.origin}"


def load_pair_splits(
    source: Source,
    *,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    group_column: str | None = None,
    filters: Sequence[str] = (),
    seed: int = 0,
    **options: Any,
) -> dict[str, PairSplit]:
    """Load the splits `train`, `validation` and `test` of a source of image-caption pairs.

    A split that the source lacks is a tenth of the training images, each with all its captions.

    Args:
        source: See [`load_pairs`], as for the columns and `filters`.
        train_split: A split, or a slice such as `"train[:100]"`, which counts the source's rows; None: `train`, else
            the source's first.
        validation_split: Likewise, as `test_split`; None: the source's own, else images held out.
        seed: Of the images held out.
        **options: `preset`, `split_column`, `image_folder` and `limit` (rows of each split) as in [`load_pairs`];
            further ones go to `datasets.load_dataset`.

    Raises:
        ValueError: If the source cannot be read, a split does not exist, or fewer than 6 training images are left.

    Example:
        >>> import tempfile
        >>> from PIL import Image as Picture
        >>> images = [Picture.new("RGB", (8, 8), (grey, grey, grey)) for grey in range(10)]
        >>> file = f"{tempfile.mkdtemp()}/pairs.parquet"
        >>> _ = Dataset.from_dict({"image": images, "text": list("abcdefghij")}).to_parquet(file)
        >>> splits = load_pair_splits(file)
        >>> {name: len(split.images) for name, split in splits.items()}
        {'train': 8, 'validation': 1, 'test': 1}
    """
    reading = {name: value for name, value in options.items() if name != "image_folder"}
    found = CaptionSource.of(source, **reading)
    names = found.splits
    train = train_split or ("train" if "train" in names else names[0])
    own = [name for name in names if name != train]
    validation = validation_split or next((name for name in SPLIT_WORDS["validation"] if name in own), None)
    test = test_split or ("test" if "test" in own else None)
    options |= {"image_column": image_column, "text_column": text_column, "group_column": group_column}
    options["filters"] = filters

    everything = load_pairs(source, train, **options)
    left = torch.randperm(max(everything["group"]) + 1, generator=torch.Generator().manual_seed(seed)).tolist()
    total, share = len(left), max(int(len(left) * CAPTIONED_IMAGES_HELD_OUT), 1)
    splits = {}
    for name, split in (("validation", validation), ("test", test)):
        if split is None:
            held, left = left[:share], left[share:]
            splits[name] = _select(everything, held, "")
            splits[name] = replace(splits[name], origin=f"{len(held):,} {splits[name].kind} held out of {train}")
        else:
            rows = load_pairs(source, split, **options)
            splits[name] = _select(rows, sorted(set(rows["group"])), split)
    if len(left) < _FEWEST_IMAGES:
        kept = f"{len(left)} of the {total} images of {train!r} are left to train on"
        raise ValueError(f"source: {kept}; {_FEWEST_IMAGES} are the least")
    kind = splits["test"].kind
    rest = "" if len(left) == total else f", the rest of its {total:,} {kind} with {len(everything):,} captions"
    splits = {"train": _select(everything, sorted(left), f"{train}{rest}"), **splits}
    return {name: replace(split, source=describe_source(found.source)) for name, split in splits.items()}


def _select(rows: Dataset, groups: list[int], origin: str) -> PairSplit:
    group_of, texts = rows["group"][:], rows["text"][:]
    place = {group: image for image, group in enumerate(groups)}
    kept = [row for row, group in enumerate(group_of) if group in place]
    first = {group_of[row]: row for row in reversed(kept)}
    distinct, text_ids = index_distinct(texts[row] for row in kept)
    pairs = [(place[group_of[row]], text) for row, text in zip(kept, text_ids, strict=True)]
    images = ImageInputs(rows, [first[group] for group in groups])
    return PairSplit(images, distinct, torch.tensor(pairs), origin)


def without_images(split: PairSplit, others: Iterable[Any]) -> tuple[PairSplit, int]:
    """Leave out the pairs of images that occur among others too, and count those images.

    The same image is one with the same content, or a file of the same name, if that has eight characters or more:
    collections share photographs, resized or compressed anew, under one name.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> split = PairSplit([Path("17273391.jpg"), Path("1.jpg")], ["a dog"], torch.tensor([[0, 0], [1, 0]]))
        >>> rest, count = without_images(split, [Path("17273391.jpg"), Path("1.jpg")])
        >>> rest.pairs.tolist(), count
        ([[1, 0]], 1)
    """
    known = {mark for image in others for mark in image_marks(image)}
    gone = {place for place, image in enumerate(split.images) if known & image_marks(image)}
    kept = torch.tensor([int(image) not in gone for image in split.pairs[:, 0]], dtype=torch.bool)
    return replace(split, pairs=split.pairs[kept]), len(gone)


def hold_out_again(splits: Mapping[str, PairSplit], seed: int = 0) -> dict[str, PairSplit]:
    """Hold images of the training split out for validation and test, where those have no pair left.

    Raises:
        ValueError: If fewer than 6 training images would be left.

    Example:
        >>> import torch
        >>> whole = PairSplit(list("abcdefgh"), list("ABCDEFGH"), torch.arange(8)[:, None].expand(-1, 2))
        >>> empty = PairSplit(["i"], ["I"], torch.empty(0, 2, dtype=torch.long))
        >>> again = hold_out_again({"train": whole, "validation": empty, "test": whole})
        >>> [len(again[name].images) for name in ("train", "validation", "test")]
        [7, 1, 8]
    """
    found, train = dict(splits), splits["train"]
    paired = train.pairs[:, 0].unique()
    left = paired[torch.randperm(len(paired), generator=torch.Generator().manual_seed(seed))].tolist()
    share = max(int(len(left) * CAPTIONED_IMAGES_HELD_OUT), 1)
    empty = [name for name in ("validation", "test") if not len(splits[name].pairs)]
    if len(left) - share * len(empty) < _FEWEST_IMAGES:
        raise ValueError(
            f"captions: {len(left)} {train.kind} are left that neither validation nor test ask about; "
            f"{_FEWEST_IMAGES + share * len(empty)} are the least"
        )
    for name in empty:
        held, left = left[:share], left[share:]
        found[name] = _of_images(train, held, f"{len(held):,} {train.kind} held out of {train.origin}")
    return found | ({"train": _of_images(train, sorted(left), train.origin)} if empty else {})


def _of_images(split: PairSplit, places: list[int], origin: str) -> PairSplit:
    place = {image: number for number, image in enumerate(places)}
    kept = [(place[image], text) for image, text in split.pairs.tolist() if image in place]
    texts, text_ids = index_distinct(text for _, text in kept)
    pairs = torch.tensor([[image, text] for (image, _), text in zip(kept, text_ids, strict=True)])
    return replace(
        split, images=Picked(split.images, places), texts=[split.texts[t] for t in texts], pairs=pairs, origin=origin
    )


def image_marks(image: Any) -> set[Any]:
    """What an image is known by."""
    path = image if isinstance(image, Path) else None
    marks: set[Any] = {path.name} if path is not None and len(path.stem) >= _TELLING else set()
    return marks | ({input_hash(image)} if path is None or path.is_file() else set())
