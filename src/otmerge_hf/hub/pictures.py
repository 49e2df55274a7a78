"""A report's PNGs, which carry their titles and descriptions -> pictures of the card of the model above them."""

import io
import re
from pathlib import Path

from PIL import Image, PngImagePlugin

from .facts import CardPicture


FOLDER = "report"  # of `otmerge report`, in the model's folder
_SECTION = re.compile(r"## Pictures\n\n.*?\n\n(?=## )", flags=re.DOTALL)


def describe_png(png: bytes, title: str, description: str) -> bytes:
    """A PNG that says what it shows, as its `Title` and `Description`; the pixels are as they were.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (2, 2)).save(file, "PNG")
        >>> Image.open(io.BytesIO(describe_png(file.getvalue(), "Black", "All four pixels are black."))).text["Title"]
        'Black'
    """
    words = PngImagePlugin.PngInfo()
    for key, value in (("Title", title), ("Description", description)):
        words.add_itxt(key, value)
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).save(file, "PNG", pnginfo=words)
    return file.getvalue()


def find_pictures(folder: Path) -> tuple[CardPicture, ...]:
    """Pictures of the report in a model's folder, by name; not those that show the data's own images (`words-*`).

    Raises:
        ValueError: If a file called PNG is none.
    """
    found = []
    for file in sorted((folder / FOLDER).glob("*.png")):
        if file.name.startswith("words-"):  # whose they are, and whether they may be shown, is not known
            continue
        try:
            with Image.open(file, formats=("PNG",)) as image:  # others' readers start programs (EPS)
                image.load()
                words = getattr(image, "text", {})
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{file} is no PNG that can be read") from error
        if "Title" in words and "Description" in words:
            found.append(CardPicture(f"{FOLDER}/{file.name}", words["Title"], words["Description"]))
    return tuple(found)


def without_pictures(card: str) -> str:
    """A card's text without its pictures, for where the report does not go along."""
    return _SECTION.sub("", card)
