"""Images alone or texts alone, from a folder, a file or any source of rows: inputs without a partner."""

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from .distinct import index_distinct
from .image_inputs import ImageInputs, image_files
from .pairs import captions_of, find_text_column, image_identities, open_images
from .sources import BUILDERS, Source, load_source


def load_images(source: Source, split: str = "train", column: str | None = None) -> Sequence[Path | Image]:
    """Every picture below a folder, or each distinct image of a data set, once.

    Args:
        source: A folder of pictures, or whatever [`load_source`] reads.
        split: Split of a data set.
        column: Its column of images; found by its type when None.

    Returns:
        Images as [`features.encode`] takes them.

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
    if isinstance(source, str | Path) and Path(source).is_dir() and (found := image_files(Path(source))):
        return found
    dataset, name = open_images(load_source(source, split), source, column)
    identities = image_identities(dataset, name)
    rows = {identity: row for row, identity in reversed(list(enumerate(identities))) if identity is not None}
    if not rows:
        raise ValueError(f"source {str(source)!r} has no image in column {name!r}")
    return ImageInputs(dataset, sorted(rows.values()), name)


def load_texts(source: Source, split: str = "train", column: str | None = None) -> list[str]:
    r"""Every line of a text file, or every caption of a data set, each once and without space around it.

    Args:
        source: A file with one text a line (`.txt`, or any kind that holds no rows), or as for [`load_source`].
        split: Split of a data set.
        column: Its column of texts, lists of texts, or records; found by its name when None.

    Raises:
        ValueError: If there is no text.
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "captions.txt"
        >>> _ = file.write_text("a dog\n\n a cat\na dog")
        >>> load_texts(file)
        ['a dog', 'a cat']
    """
    path = Path(source) if isinstance(source, str | Path) else None
    kind = path.suffix.lower() if path else ""
    if path and (kind == ".txt" or (path.is_file() and kind not in BUILDERS)):
        lines: Sequence[str] = path.read_text(encoding="utf-8").splitlines()
    else:
        dataset = load_source(source, split)
        name = find_text_column(dataset, column)
        values = dataset.select_columns([name])[:][name]
        lines = [text for value in values for text in captions_of(value, name)]
    texts, _ = index_distinct(text.strip() for text in lines if text.strip())
    if not texts:
        raise ValueError(f"source {str(source)!r} has no text")
    return texts
