"""Files that strangers send: read as everywhere; what is refused is refused before it is decoded."""

import io
import struct
import zlib

import pytest
from PIL import Image

from otmerge_hf.data import RefusedImageError, open_upload
from otmerge_hf.model.images import open_image


def bomb(width, height):
    """A PNG of a few bytes that says it is larger than it is."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_known_kinds_are_opened_as_everywhere(kind, images):
    picture = images[0].copy()
    picture.paste("blue", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}))
    assert open_upload(file.getvalue()).tobytes() == open_image(Image.open(file)).tobytes()


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (b"", "unknown", "`image` is no PNG, JPEG, WEBP, GIF, BMP or TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "unknown", "`image` is no PNG"),
        (bomb(200, 60), "large", "`image` has 200 x 60 pixels; expected at most 10,000"),
        (bomb(60_000, 60_000), "large", "expected at most 10,000 pixels"),
        (bomb(1, 51), "damaged", "`image` is 1 x 51; expected sides that differ by a factor of 50 at most"),
    ],
)
def test_refused_before_any_pixel(content, reason, said, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("nothing of this may be decoded"))
    with pytest.raises(RefusedImageError, match=said) as raised:
        open_upload(content, max_pixels=10_000)
    assert raised.value.reason == reason


def test_damaged(images):
    file = io.BytesIO()
    images[0].save(file, "PNG")
    for content in (file.getvalue()[:60], bomb(9, 9)):
        with pytest.raises(RefusedImageError, match=r"`image` of mode RGB, \d+ x \d+, cannot be opened: ") as raised:
            open_upload(content)
        assert raised.value.reason == "damaged"
