"""A column of images or sounds -> a sequence for an encoder, opened one at a time."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset
from datasets import Image as ImageFeature
from PIL.Image import Image

from ..model.images import open_image


class ImageInputs(Sequence[Path | Image | bytes]):
    """Images of some rows of a data set (all by default), in that order, as [`features.encode`] takes them.

    An image kept as a file is given as its path, which needs no decoding to be recognised; others are opened by
    `open_image` when they are asked for, so that a large data set never lies in memory. Sounds are paths, or bytes.

    Raises:
        ValueError: When an image is asked for that cannot be opened; the message has its row in the data set.

    Example:
        >>> from PIL import Image as Picture
        >>> rows = Dataset.from_dict({"image": [Picture.new("L", (4, 4))]})
        >>> ImageInputs(rows.cast_column("image", ImageFeature()))[0].mode
        'RGB'
    """

    def __init__(self, dataset: Dataset, rows: Sequence[int] | None = None, column: str = "image") -> None:
        self.images = dataset.select_columns([column])
        self.sounds = isinstance(self.images.features[column], Audio)
        raw = Audio(decode=False) if self.sounds else ImageFeature(decode=False)
        self.records = self.images.cast_column(column, raw)
        self.rows = list(range(len(dataset)) if rows is None else rows)
        self.column = column

    def __len__(self) -> int:
        return len(self.rows)

    def content(self, place: int) -> bytes:
        """An image's file, not decoded."""
        found: bytes = self.records[self.rows[place]][self.column]["bytes"]
        return found

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        row = self.rows[place]
        record = self.records[row][self.column]
        if record["bytes"] is None and record["path"] and Path(record["path"]).is_file():
            return Path(record["path"])
        if self.sounds and record["bytes"] is not None:
            return record["bytes"]
        try:
            return open_image(self.images[row][self.column])
        except (
            OSError,
            SyntaxError,
            ValueError,
        ) as error:  # what Pillow raises on files that are cut short or damaged
            name = f" ({record['path']})" if record["path"] else ""
            raise ValueError(f"row {row}, column `{self.column}`{name}: {error}") from error


class Chained(Sequence[Any]):
    """Several sequences in a row, none of them copied: images that are opened when they are asked for stay so.

    Example:
        >>> list(Chained([["a"], ["b", "c"]]))
        ['a', 'b', 'c']
    """

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self.parts = parts
        self.starts = [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        place = range(len(self))[place]
        part = bisect_right(self.starts, place) - 1
        return self.parts[part][place - self.starts[part]]


class Picked(Sequence[Any]):
    """Some of a sequence's items, by their places, none of them opened before it is asked for.

    Example:
        >>> list(Picked(["a", "b", "c"], [2, 0]))
        ['c', 'a']
    """

    def __init__(self, items: Sequence[Any], places: Sequence[int]) -> None:
        self.items, self.places = items, list(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        return self.items[self.places[place]]
