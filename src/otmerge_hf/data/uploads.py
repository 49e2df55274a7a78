"""A file that a stranger sent -> an image, or one line that says why not, before anything large is done with it."""

import io
from typing import Literal

from PIL import Image

from ..model.images import open_image


#: Kinds that are read. Others have readers that start programs (EPS), or are rarely looked after.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_MOST_ELONGATED = 50


class RefusedImageError(ValueError):
    """What was sent is not used; `reason` is `"unknown"` (no image), `"large"`, or `"damaged"` (or a mere line)."""

    def __init__(self, message: str, reason: Literal["unknown", "large", "damaged"]):
        super().__init__(message)
        self.reason = reason


def open_upload(content: bytes, max_pixels: float = 20e6) -> Image.Image:
    """Open an image that a stranger sent, as [`open_image`] does.

    Its size is read, and judged, before any pixel is decoded. Sides may differ by a factor of 50: an image processor
    that keeps the ratio would make something huge of a line.

    Args:
        content: The file's.
        max_pixels: The most pixels that an image may have.

    Raises:
        RefusedImageError: If it is no image of a known kind, too large, or damaged.

    Example:
        >>> open_upload(b"no picture")
        Traceback (most recent call last):
        ...
        otmerge_hf.data.uploads.RefusedImageError: `image` is no PNG, JPEG, WEBP, GIF, BMP or TIFF that can be read.
    """
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise RefusedImageError(
            f"`image` is too large; expected at most {max_pixels:,.0f} pixels.", "large"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise RefusedImageError(f"`image` is no {kinds} that can be read.", "unknown") from error
    with opened as image:
        width, height = image.size
        if width * height > max_pixels:
            got = f"{width:,} x {height:,} pixels"
            raise RefusedImageError(f"`image` has {got}; expected at most {max_pixels:,.0f}.", "large")
        if max(image.size) > _MOST_ELONGATED * min(image.size):
            expected = f"sides that differ by a factor of {_MOST_ELONGATED} at most"
            raise RefusedImageError(f"`image` is {width:,} x {height:,}; expected {expected}.", "damaged")
        try:
            return open_image(image)
        except ValueError as error:
            raise RefusedImageError(str(error), "damaged") from error
