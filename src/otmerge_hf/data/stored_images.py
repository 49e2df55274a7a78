"""Images that lie inside a data set, one reference a row, opened when they are asked for."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

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

    inputs: ImageInputs
    row: int
    identity: bytes

    def open(self) -> Any:
        """The image, as a person would see it."""
        return self.inputs[self.row]

    def stream(self) -> io.BytesIO:
        """The image's bytes, not decoded."""
        return io.BytesIO(self.inputs.records[self.row][self.inputs.column]["bytes"])


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
