"""An image, however it comes -> the RGB picture that a person would see; the one place where images are opened."""

import base64
import io
import os
import struct
from typing import Any

import torch
from PIL import Image
from transformers import image_utils


# Modes of more than 8 bits a pixel, which `convert("RGB")` would clip to white.
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_ORIENTATION = 0x0112  # the EXIF tag
# What Pillow raises on files that are cut short, damaged, of an unknown kind, or larger than any picture.
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError),
    *(struct.error, AttributeError, LookupError, TypeError),  # by tags that are not what they are declared to be
)
_TURNS = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAYS_ORIENTATION = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # of `Image.info`


def open_image(item: Any, allow_url: bool = False, timeout: float | None = None) -> Image.Image:
    """Open an image as RGB, the same for training, retrieval and answering.

    - EXIF orientation is applied: a photograph that was taken upright stands upright.
    - Transparent parts become white, as on a page.
    - 16-bit grey is scaled to 8 bits: 65535 is white. Modes `I` and `F` do not say what white is: it is the smallest
      of 1 (`F` alone), 255 and 65535 that no pixel exceeds; with a negative or larger pixel, the darkest becomes
      black and the brightest white.
    - Grey and palette images become RGB. Of an animation, the current frame is taken.

    Args:
        item: A PIL image, the path of a file, or an array or tensor of whole numbers, (H, W), (H, W, C) or (C, H, W)
            with 1, 3 or 4 colours; of 8 bits, or more if grey.
        allow_url: Take an `http(s)` address or base64 text as well.
        timeout: Seconds to wait for an address; None waits as long as it takes.

    Returns:
        An image of mode `RGB`; the very same, if it was one in memory and nothing had to be done.

    Raises:
        FileNotFoundError: If a path names no file (with `allow_url`, a ValueError, for it may be meant otherwise).
        ValueError: If the image is cut short, unreadable, has no pixels, or is no image; the message names it.

    Example:
        >>> half_red = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
        >>> open_image(half_red).getpixel((0, 0))
        (255, 127, 127)
        >>> open_image(Image.new("I;16", (2, 2), 65535)).getpixel((0, 0))
        (255, 255, 255)
    """
    if isinstance(item, Image.Image):
        in_memory = f"of mode {item.mode}, {item.width} x {item.height},"
        return _read(item, _quoted(item.filename) if getattr(item, "filename", "") else in_memory)
    if hasattr(item, "shape"):
        return _read(_from_array(item), f"of shape {tuple(item.shape)}")
    is_text = isinstance(item, (str, os.PathLike))
    if is_text and os.path.isfile(item):
        return _read(item, _quoted(item))
    if is_text and not allow_url:
        raise FileNotFoundError(f"`image` {_quoted(item)} is not an existing file.")
    expected = "an existing file, a URL, or a base64 image" if allow_url else "a path, a PIL image or an array"
    if not isinstance(item, str):
        raise ValueError(f"`image` {_quoted(item)} is not {expected}.")
    if item.startswith(("http://", "https://")):
        return _read(io.BytesIO(_fetch(item, timeout)), _quoted(item))
    try:
        encoded = item.partition(",")[2] if item.startswith("data:image/") else item
        content = base64.decodebytes(encoded.encode())
        with Image.open(io.BytesIO(content)):
            pass  # only whether it is an image at all: text that is none was meant as a path
    except _UNREADABLE as error:
        raise ValueError(f"`image` {_quoted(item)} is not {expected}.") from error
    return _read(io.BytesIO(content), _quoted(item))


def opens_as_it_is(image: Image.Image) -> bool:
    """Whether `open_image` does no more than `image.convert("RGB")`: no turning, no transparency, 8 bits."""
    return image.mode not in _DEEP_MODES and not _is_transparent(image) and _orientation(image) == 1


def _read(source: Any, name: str) -> Image.Image:
    """Read `source` to its end and prepare it; every way of failing names the image."""
    try:
        if isinstance(source, Image.Image):
            return _prepare(source)
        with Image.open(source) as image:
            return _prepare(image)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"`image` {name} cannot be opened: {reason}") from error


def _from_array(item: Any) -> Image.Image:
    """Make an image of an array or tensor of pixels, as they are."""
    array = item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else item
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    known = ("uint8", "uint16", "int32", "float32", "bool") if grey else ("uint8",) if colour else ()
    if str(array.dtype) not in known or 0 in array.shape:
        got = f"{array.dtype} of shape {tuple(item.shape)}"
        raise ValueError(f"`image` is an array of {got}; expected uint8, (H, W), (H, W, 3 or 4) or (3 or 4, H, W).")
    return Image.fromarray(array)


def _prepare(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise ValueError(f"it has no pixels ({image.width} x {image.height})")
    image.load()
    if (orientation := _orientation(image)) != 1:
        # not `ImageOps.exif_transpose`, which writes the other tags anew and fails on one that is broken
        image = image.transpose(_TURNS[orientation])
        for name in _SAYS_ORIENTATION:
            image.info.pop(name, None)
    if image.mode in _DEEP_MODES:
        image = _to_eight_bits(image)
    if _is_transparent(image):
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # `La` converts to `LA` alone
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if type(image) is Image.Image and image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (as it is) where there is none or it is broken."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1
    return found if found in _TURNS else 1


def _is_transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or bool({"A", "a"} & set(image.getbands()))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    black, white = 0.0, 65535.0
    if image.mode in ("I", "F"):
        if (
            image.mode == "F"
            and not torch.frombuffer(bytearray(image.tobytes()), dtype=torch.float32).isfinite().all()
        ):
            raise ValueError("it holds NaN or infinite pixels")
        low, high = image.getextrema()
        whites = [value for value in ((1, 255, 65535) if image.mode == "F" else (255, 65535)) if high <= value]
        black, white = (0.0, float(whites[0])) if low >= 0 and whites else (float(low), float(high))
    scale = 255.0 / (white - black or 1.0)
    grey = image.convert("F").point(lambda value: value * scale + (0.5 - black * scale))  # Pillow cuts decimals off
    grey = grey.convert("L")
    grey.info.pop("transparency", None)  # of a deep image, a value that no longer stands for anything
    return grey


def _fetch(address: str, timeout: float | None) -> bytes:
    client = image_utils.httpx  # whichever client transformers' own `load_image` fetches with
    try:
        return client.get(address, timeout=timeout, follow_redirects=True).raise_for_status().content
    except (client.HTTPError, client.InvalidURL) as error:
        raise ValueError(f"`image` {_quoted(address)} cannot be fetched: {str(error).splitlines()[0]}") from error


def _quoted(item: Any) -> str:
    """What the user gave, short enough for a message: base64 text is long."""
    shown = str(item)
    return repr(shown if len(shown) <= 200 else f"{shown[:60]}...{shown[-60:]}")
