"""One function opens an image: turned, flattened, scaled and named, whatever it comes as."""

import base64
import http.server
import io
import re
import struct
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from otmerge_hf.model.images import open_image, opens_as_it_is


@pytest.fixture
def picture():
    """Six by four pixels, every one different, so that any turn or flip shows."""
    values = np.arange(72, dtype=np.uint8).reshape(4, 6, 3) * 3
    return Image.fromarray(values)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, picture, orientation):
    """The stored pixels of each orientation are made by hand; what comes back is the picture as it was taken."""
    stored = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](np.asarray(picture))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
    opened = open_image(tmp_path / "photo.png")
    assert np.array_equal(pixels(opened), pixels(picture))
    assert open_image(opened) is opened  # a second opening turns nothing, and copies nothing
    with Image.open(tmp_path / "photo.png") as image:
        assert np.array_equal(pixels(open_image(image)), pixels(picture))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tag", [0x0100, 0x011A])
def test_a_broken_tag_beside_the_orientation_does_no_harm(tmp_path, picture, kind, tag):
    """Cameras' programs write tags of kinds that they are not declared to be."""
    entries = [struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHI4s", tag, 2, 4, b"abc\0")]
    ifd = struct.pack("<H", 2) + b"".join(sorted(entries)) + struct.pack("<I", 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd
    picture.save(tmp_path / "photo", kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    found, expected = pixels(open_image(tmp_path / "photo")), np.rot90(pixels(picture), -1)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 40  # a JPEG of four by six is no good likeness


def test_orientation_that_means_nothing_is_left_alone(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 9
    picture.save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(pixels(open_image(tmp_path / "photo.png")), pixels(picture))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "La", "RGBa"])
def test_what_is_transparent_becomes_white(mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    found = pixels(open_image(image.convert(mode.upper()).convert(mode)))
    assert found[0].tolist() == [[255] * 3, [0] * 3, [127] * 3]


def test_palette_with_transparency():
    image = Image.new("PA", (2, 1), (0, 0))
    image.putpixel((1, 0), (0, 255))
    assert pixels(open_image(image))[0].tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_stands_for_transparent(tmp_path, mode):
    image = Image.new("RGB", (2, 1), "black")
    image.putpixel((1, 0), (255, 255, 255) if mode != "RGB" else (255, 0, 0))
    image = image.convert(mode)
    image.save(tmp_path / "keyed.png", transparency=image.getpixel((0, 0)))
    assert pixels(open_image(tmp_path / "keyed.png"))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_are_what_pillow_makes_of_them(picture, mode):
    image = picture.convert(mode)
    assert np.array_equal(pixels(open_image(image)), pixels(image.convert("RGB")))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 128, 257, 25700, 40000, 65535]], dtype=np.uint16)
    expected = np.round(values / 257)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(values).save(tmp_path / "deep.tif")
    for image in (tmp_path / "deep.png", tmp_path / "deep.tif", Image.fromarray(values)):
        assert np.array_equal(pixels(open_image(image))[..., 0], expected)
    Image.fromarray(values).save(tmp_path / "keyed.png", transparency=0)
    assert np.array_equal(pixels(open_image(tmp_path / "keyed.png"))[..., 1], expected)
    big_endian = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    assert np.array_equal(pixels(open_image(big_endian))[..., 2], expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 10, 200]], np.int32), [0, 10, 200]),  # eight bits in a wide mode
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),  # sixteen
        (np.array([[-10, 0, 10]], np.int32), [0, 128, 255]),  # from the darkest to the brightest
        (np.array([[0, 10**6, 10**7]], np.int32), [0, 26, 255]),
        (np.array([[0.0, 0.2, 1.0]], np.float32), [0, 51, 255]),
        (np.array([[0.0, 10.0, 200.0]], np.float32), [0, 10, 200]),
        (np.array([[0.0, 257.0, 65535.0]], np.float32), [0, 1, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-1.0, -1.0, -1.0]], np.float32), [0, 0, 0]),
    ],
)
def test_wide_modes_find_their_white(values, expected):
    assert pixels(open_image(Image.fromarray(values)))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(value):
    with pytest.raises(ValueError, match="it holds NaN or infinite pixels"):
        open_image(Image.fromarray(np.array([[0.5, value]], np.float32)))


@pytest.mark.parametrize("end", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp"])
def test_file_that_was_cut_short_is_named(tmp_path, kind, end):
    path = tmp_path / f"cut.{kind}"
    Image.effect_noise((64, 64), 60).convert("RGB").save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * end)])
    with pytest.raises(ValueError, match=rf"`image` '.*cut.{kind}' cannot be opened") as raised:
        open_image(path)
    assert "\n" not in str(raised.value)
    with Image.open(io.BytesIO(content)) as whole:
        assert open_image(whole).size == (64, 64)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"'.*notes.png' cannot be opened: cannot identify image file"):
        open_image(tmp_path / "notes.png")
    with pytest.raises(FileNotFoundError, match=r"'.*missing.png' is not an existing file"):
        open_image(str(tmp_path / "missing.png"))
    for address in ("https://example.org/a.png", base64.b64encode(b"a").decode()):  # only where it is allowed
        with pytest.raises(FileNotFoundError, match="is not an existing file"):
            open_image(address)
    with pytest.raises(ValueError, match="`image` '3' is not a path, a PIL image or an array"):
        open_image(3)


def test_image_without_pixels():
    with pytest.raises(ValueError, match=r"of mode RGB, 0 x 4.*it has no pixels \(0 x 4\)"):
        open_image(Image.new("RGB", (0, 4)))


def test_picture_larger_than_any(tmp_path, picture, monkeypatch):
    picture.save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ValueError, match=r"bomb.png' cannot be opened: Image size .* exceeds limit"):
        open_image(tmp_path / "bomb.png")


def test_addresses_and_base64_are_opened_the_same_way(tmp_path):
    """As the pipeline allows; transparency and depth too, which transformers' `load_image` loses."""
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(tmp_path / "deep.png")
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        for name in ("clear.png", "deep.png"):
            encoded = base64.b64encode((tmp_path / name).read_bytes()).decode()
            for item in (encoded, f"data:image/png;base64,{encoded}", f"{address}/{name}", tmp_path / name):
                assert (pixels(open_image(item, allow_url=True, timeout=10)) == 255).all(), item
        with pytest.raises(ValueError, match=r"no.png' cannot be fetched: .*404"):
            open_image(f"{address}/no.png", allow_url=True)
    finally:
        server.shutdown()
        server.server_close()


def test_which_images_are_opened_with_care(picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    picture.save(tmp_path / "plain.jpg")
    with Image.open(tmp_path / "turned.jpg") as turned, Image.open(tmp_path / "plain.jpg") as plain:
        assert not opens_as_it_is(turned)
        assert opens_as_it_is(plain)
    assert all(opens_as_it_is(picture.convert(mode)) for mode in ("RGB", "L", "P", "1", "CMYK"))
    assert not any(opens_as_it_is(picture.convert(mode)) for mode in ("RGBA", "LA", "I", "F", "I;16"))


@pytest.mark.parametrize(
    "make", [np.asarray, lambda image: torch.from_numpy(np.array(image))], ids=["array", "tensor"]
)
def test_arrays_are_the_image_that_they_hold(picture, make):
    array = make(picture)
    assert np.array_equal(pixels(open_image(array)), pixels(picture))
    first = array.transpose(2, 0, 1) if isinstance(array, np.ndarray) else array.permute(2, 0, 1)
    assert np.array_equal(pixels(open_image(first)), pixels(picture))
    grey = picture.convert("L")
    for shaped in (make(grey), make(grey)[:, :, None], make(grey)[None]):
        assert np.array_equal(pixels(open_image(shaped)), pixels(grey.convert("RGB")))
    clear = picture.copy()
    clear.putalpha(0)
    assert (pixels(open_image(make(clear))) == 255).all()
    deep = np.full((4, 6), 65535, np.uint16)
    assert (pixels(open_image(deep)) == 255).all()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 6, 3), np.float32), ((5, 6, 2), np.uint8), ((2, 4, 6, 3), np.uint8), ((4, 6), np.float64)],
)
def test_arrays_that_are_no_image(shape, dtype):
    got = f"{np.dtype(dtype)} of shape {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=f"`image` is an array of {got}; expected uint8"):
        open_image(np.zeros(shape, dtype))
