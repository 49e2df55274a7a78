"""Images alone (or sounds) or texts alone, from a folder, a file or any source of rows: inputs without a partner."""

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from .distinct import index_distinct
from .image_inputs import ImageInputs
from .pairs import captions_of, find_text_column, image_identities, open_images
from .question_images import is_sound_name
from .sources import BUILDERS, Source, column_values, load_source, source_folder


# What a folder of pictures may hold; other files are not looked at.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


def load_images(source: Source, split: str = "train", column: str | None = None) -> Sequence[Path | Image | bytes]:
    """Every picture below a folder, or each distinct image of a data set, once, as [`features.encode`] takes them.

    A folder without pictures gives its sounds, WAV files.

    Args:
        source: A folder of pictures, or whatever [`load_source`] reads, as for `split`.
        column: Column of images; found by its type when None.

    Raises:
        ValueError: If there is no image.

    Example:
        >>> import tempfile
        >>> from PIL import Image as Picture
        >>> folder = Path(tempfile.mkdtemp())
        >>> Picture.new("RGB", (8, 8)).save(folder / "black.png")
        >>> [path.name for path in load_images(folder)]
        ['black.png']
    """
    if isinstance(source, str | Path) and Path(source).is_dir():
        files = (path for path in Path(source).rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
        if found := sorted(files):
            return found
        if found := sorted(path for path in Path(source).rglob("*") if is_sound_name(path) and path.is_file()):
            return found
    dataset, name = open_images(load_source(source, split), source_folder(source), column)
    identities = image_identities(dataset, name)
    rows = {identity: row for row, identity in reversed(list(enumerate(identities))) if identity is not None}
    if not rows:
        raise ValueError(f"source {str(source)!r} has no image in column {name!r}")
    return ImageInputs(dataset, sorted(rows.values()), name)


def load_texts(source: Source, split: str = "train", column: str | None = None) -> list[str]:
    r"""Every line of a text file, or every caption of a data set, each once and without space around it.

    Args:
        source: A file with one text a line (`.txt`, or any kind that holds no rows), or as for [`load_source`].
        column: Column of texts, lists of texts, or records; found by its name when None.

    Raises:
        ValueError, OSError: If there is no text, or the file cannot be read.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "captions.txt"
        >>> _ = file.write_text("a dog\n\n a cat\na dog")
        >>> load_texts(file)
        ['a dog', 'a cat']
    """
    path = Path(source) if isinstance(source, str | Path) else None
    if path and (path.suffix.lower() == ".txt" or (path.is_file() and path.suffix.lower() not in BUILDERS)):
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        dataset = load_source(source, split)
        name = find_text_column(dataset, column)
        lines = [text for value in column_values(dataset, name) for text in captions_of(value, name)]
    texts, _ = index_distinct(text.strip() for text in lines if text.strip())
    if not texts:
        raise ValueError(f"source {str(source)!r} has no text")
    return texts
