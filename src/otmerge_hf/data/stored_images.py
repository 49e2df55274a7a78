"""Images that lie inside a data set, one reference a row, opened when they are asked for."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, List
from datasets import Image as ImageFeature
from PIL import Image

from ..model.images import open_image
from .image_inputs import ImageInputs


@dataclass(frozen=True)
class StoredImage:
    """The image of one row of a data set.

    Attributes:
        inputs: The data set's images.
        row: Which of them.
        identity: What tells it from others: the SHA-256 of its content.

    Example:
        >>> from PIL import Image
        >>> rows = Dataset.from_dict({"image": [Image.new("L", (4, 4))]})
        >>> stored_images(rows, "image")[0].open().size
        (4, 4)
    """

    inputs: "ImageInputs | ListedImages"
    row: int
    identity: bytes

    def open(self) -> Any:
        """The image, as a person would see it."""
        return self.inputs[self.row]

    def stream(self) -> io.BytesIO:
        """The image's bytes, not decoded."""
        return io.BytesIO(self.inputs.content(self.row))


def stored_images(dataset: Dataset, column: str) -> list[StoredImage | str | None]:
    """Reference of each row's image; the path where the data set keeps one; None where a row has no image."""
    inputs = ImageInputs(dataset, column=column)
    found: list[StoredImage | str | None] = []
    for batch in inputs.records.iter(batch_size=64):
        for record in batch[column]:
            if record is None or (record["bytes"] is None and not record["path"]):
                found.append(None)
            elif record["bytes"] is None:
                found.append(record["path"])
            else:
                found.append(StoredImage(inputs, len(found), hashlib.sha256(record["bytes"]).digest()))
    return found


class ListedImages(Sequence[Image.Image]):
    """Images of a column that holds a list of them in each row: all, one after the other, opened when asked for.

    Args:
        dataset: The data set.
        column: Its column of lists.

    Attributes:
        places: Row and place in its list of each image.
    """

    def __init__(self, dataset: Dataset, column: str) -> None:
        self.column, self.places = column, list[tuple[int, int]]()
        self.records = dataset.select_columns([column]).cast_column(column, List(ImageFeature(decode=False)))

    def __len__(self) -> int:
        return len(self.places)

    def content(self, number: int) -> bytes:
        """An image's file, not decoded."""
        row, place = self.places[number]
        found: bytes = self.records[row][self.column][place]["bytes"]
        return found

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        return open_image(Image.open(io.BytesIO(self.content(number))))


def stored_image_lists(dataset: Dataset, column: str) -> list[list[StoredImage | str | None]]:
    """References of each row's images, as of [`stored_images`]; none for a row without a list.

    Example:
        >>> from PIL import Image
        >>> from datasets import Features, List
        >>> features = Features(images=List(ImageFeature()))
        >>> rows = Dataset.from_dict({"images": [[Image.new("L", (4, 4)), Image.new("L", (2, 2))]]}, features=features)
        >>> [image.open().size for image in stored_image_lists(rows, "images")[0]]
        [(4, 4), (2, 2)]
    """
    inputs, found = ListedImages(dataset, column), list[list[StoredImage | str | None]]()
    for batch in inputs.records.iter(batch_size=64):
        for row in batch[column]:
            own: list[StoredImage | str | None] = []
            for place, record in enumerate(row or ()):
                if record is None or record["bytes"] is None:
                    own.append(record and record["path"])
                    continue
                inputs.places.append((len(found), place))
                own.append(StoredImage(inputs, len(inputs) - 1, hashlib.sha256(record["bytes"]).digest()))
            found.append(own)
    return found


class QuestionImages(Sequence[Any]):
    """Distinct images, kept as paths or in data sets, as [`features.encode`] takes them: one is opened at a time.

    Example:
        >>> QuestionImages([Path("1.png")])[0].name
        '1.png'
    """

    def __init__(self, items: Sequence[Path | StoredImage]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        item = self.items[place]
        return item.open() if isinstance(item, StoredImage) else item
