"""The name of an image in a table -> its file, found and looked at before anything is encoded."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..model.images import open_image
from ..model.sounds import open_waveform
from .image_inputs import ImageInputs
from .stored_images import StoredImage
from .table_parts import role_of


_ADDRESS = re.compile(r"https?://", flags=re.IGNORECASE)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
_SOUND_SUFFIXES = (".wav", ".wave")
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_JPEG_END = b"\xff\xd9"


def is_sound_name(name: Any) -> bool:
    """Whether a file is a sound, by its ending."""
    return Path(name).suffix.lower() in _SOUND_SUFFIXES


def kind_of(inputs: Sequence[Any]) -> str:
    """What the inputs of a context encoder are: `images` or `sounds`; the first is looked at, and not opened.

    Example:
        >>> kind_of([Path("1.wav")]), kind_of([])
        ('sounds', 'images')
    """
    items = getattr(inputs, "items", inputs)
    first = items if isinstance(items, ImageInputs) or not len(items) else items[0]
    if isinstance(first, StoredImage):
        first = first.inputs
    sound = getattr(first, "sounds", isinstance(first, bytes))
    return "sounds" if sound or (isinstance(first, str | Path) and is_sound_name(first)) else "images"


class ImageFinder:
    """Finds images, or sounds, by name below some folders, and opens each once to see whether it is one.

    Args:
        folders: Where relative names start, the first that has the file wins; a name that none has is looked for
            below them, and taken if exactly one file ends like it.
        decode: Whether every image is read to its last pixel; else only those whose file may be cut short are.
        role: Split whose images are looked for: folders below that speak of another one are not looked into.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "pictures").mkdir()
        >>> Image.new("L", (4, 4)).save(folder / "pictures" / "1.png")
        >>> ImageFinder([folder]).find("1.png").relative_to(folder).as_posix()
        'pictures/1.png'
    """

    def __init__(self, folders: list[Path], decode: bool = False, role: str | None = None) -> None:
        self.folders = list(dict.fromkeys(folders))
        self.decode = decode
        self.role = role
        self._below: dict[str, list[Path]] | None = None
        self._found: dict[str, Path | ValueError] = {}
        self._identities: dict[Path, bytes] = {}
        self._looked_at: dict[Any, str | None] = {}

    def find(self, value: Any) -> Path:
        """The file that a cell names.

        Raises:
            ValueError: If there is none, or several.
        """
        name = str(value).strip()
        if name not in self._found:
            try:
                self._found[name] = self._find(name)
            except (ValueError, OSError) as error:
                self._found[name] = ValueError(str(error))
        found = self._found[name]
        if isinstance(found, ValueError):
            raise found
        return found

    def identity(self, path: Path) -> bytes:
        """What tells a file from others: the SHA-256 of its content, read once."""
        if path not in self._identities:
            with path.open("rb") as stream:
                self._identities[path] = hashlib.file_digest(stream, "sha256").digest()
        return self._identities[path]

    def problem(self, image: Path | StoredImage) -> str | None:
        """What is wrong with an image, in words; None if it can be opened."""
        key = image.identity if isinstance(image, StoredImage) else image
        if key not in self._looked_at:
            self._looked_at[key] = self._look(image)
        return self._looked_at[key]

    def _find(self, name: str) -> Path:
        if not name:
            raise ValueError("the image is empty")
        if _ADDRESS.match(name):
            raise ValueError(f"image {name!r} is an address; expected a file (addresses are not fetched)")
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            for folder in self.folders or [Path()]:
                if (path := folder / spelled).is_file():
                    return path
        if Path(name).is_absolute() or not self.folders:
            raise ValueError(f"no image {name!r}")
        parts = Path(name.replace("\\", "/")).parts
        matches = [path for path in self._files(parts[-1]) if path.parts[-len(parts) : -1] == parts[:-1]]
        if len(matches) > 1:
            shown = " and ".join(str(path) for path in matches[:2])
            raise ValueError(f"image {name!r} is in {len(matches)} folders: {shown}; write which one")
        if not matches:
            raise ValueError(f"no image {name!r} in {' or '.join(str(folder) for folder in self.folders)}")
        return matches[0]

    def _files(self, name: str) -> list[Path]:
        """Pictures below the folders with that name, or whose name it is without the ending."""
        if self._below is None:
            self._below = defaultdict(list)
            pairs = ((path, folder) for folder in self.folders for path in sorted(folder.rglob("*")))
            for path, folder in {path: folder for path, folder in pairs}.items():
                other = self.role and role_of(f"{path.parent.relative_to(folder).as_posix()}/_") not in (
                    None,
                    self.role,
                )
                if path.suffix.lower() in (*_SUFFIXES, *_SOUND_SUFFIXES) and not other:
                    self._below[path.name].append(path)
                    self._below[path.stem].append(path)
        return self._below.get(name, [])

    def _look(self, image: Path | StoredImage) -> str | None:
        name = f"image {image.name!r}" if isinstance(image, Path) else "the image"
        if isinstance(image, Path) and image.stat().st_size == 0:
            return f"{name} is an empty file"
        if isinstance(image, Path) and is_sound_name(image):
            try:
                open_waveform(image, 16_000)
            except ValueError as error:
                return str(error)
            return None
        try:
            with Image.open(image.stream() if isinstance(image, StoredImage) else image) as opened:
                whole = _has_its_end(image, opened)
                opened.verify()
            if self.decode or not whole:
                open_image(image if isinstance(image, Path) else image.open())
        except Image.UnidentifiedImageError:
            return f"{name} is no image"
        except _UNREADABLE as error:
            reason = str(error).partition("cannot be opened: ")[2] or str(error) or type(error).__name__
            return f"{name} cannot be opened: {reason.splitlines()[0]}"
        return None


def _has_its_end(image: Path | StoredImage, opened: Image.Image) -> bool:
    """Whether a look at the file shows that nothing is cut off: by checksums of PNG, by the last bytes of JPEG."""
    if opened.format not in ("JPEG", "MPO"):
        return opened.format == "PNG"
    with open(image, "rb") if isinstance(image, Path) else image.stream() as stream:
        stream.seek(max(stream.seek(0, 2) - 64, 0))
        return _JPEG_END in stream.read()
