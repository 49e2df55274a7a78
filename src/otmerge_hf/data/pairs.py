"""Images or sounds with captions from any source -> rows of one of them, one caption, and their group."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, Image, Value, concatenate_datasets

from .caption_sources import CaptionSource
from .distinct import index_distinct
from .question_images import ImageFinder, is_sound_name
from .sources import Source, check_column, column_values, describe_columns, source_folder


logger = logging.getLogger(__name__)

_CAPTIONS = ("text", "txt", "caption", "captions", "sentence", "sentences")
TEXT_COLUMNS = (*_CAPTIONS, "description", "descriptions", "alt_text", "statement")
# Columns of text that may hold paths of image files, or of sounds.
PATH_COLUMNS = ("image", "image_path", "audio", "audio_path", "file_name", "filename", "filepath", "path")
_TEXT_KINDS = ("string", "large_string")  # the latter is what CSV files give from datasets 5 on
# Where a caption stands inside a record, as in COCO's {"tokens", "raw", "imgid", "sentid"}.
_CAPTION_FIELDS = ("raw", "caption", "text", "sentence")


def load_pairs(
    source: Source,
    split: str = "train",
    image_column: str | None = None,
    text_column: str | None = None,
    group_column: str | None = None,
    filters: Sequence[str] = (),
    *,
    preset: str | None = None,
    split_column: str | None = None,
    image_folder: str | os.PathLike | None = None,
    limit: int | None = None,
    **options: Any,
) -> Dataset:
    """Load image-caption pairs, one row a caption; the captions of one image share a `group`.

    Rows without an image or without a caption are left out, and a warning counts them. Images are not copied,
    however many captions they have. Sounds may stand in the place of images, as WAV files.

    Args:
        source: See [`load_source`], as for `split` and `options`.
        image_column: Column of images, or of paths relative to the source; found by its type when None.
        text_column: Column of captions: text, a list of texts, or records with a field `raw` or `caption`;
            found by its name when None.
        group_column: Column that is equal for captions of one image; the images' content when None.
        filters: `"column=value"` or `"column!=value"`; rows must meet all of them.
        preset: Name of a known data set, see [`CAPTION_PRESETS`]; its own name as the source does too.
        split_column: Column of splits, where the source has one split with all rows; `split` is one of `train`
            (Karpathy's `restval` as well), `validation` or `test` then.
        image_folder: Where relative paths of images start; the source's folder when None.
        limit: Read that many rows, at most, as a stream: the rest is not fetched.

    Returns:
        Rows with `image`, `text` and `group` (from 0, in order of first appearance).

    Raises:
        ValueError: If the source cannot be read, a column is not found (the message lists those there are), or
            no pair is left.

    Example:
        >>> import tempfile
        >>> from PIL import Image as Picture
        >>> images = [Picture.new("RGB", (8, 8), color) for color in ("red", "blue")]
        >>> file = f"{tempfile.mkdtemp()}/pairs.parquet"
        >>> _ = Dataset.from_dict({"image": images, "captions": [["red", "rot"], ["blue"]]}).to_parquet(file)
        >>> pairs = load_pairs(file)
        >>> pairs["text"][:], pairs["group"][:]
        (['red', 'rot', 'blue'], [0, 0, 1])
    """
    found = CaptionSource.of(source, preset, split_column, limit, **options)
    dataset, rows = found.load(split, [image_column, text_column, group_column], filters)
    folder = source_folder(found.source) if image_folder is None else Path(image_folder)
    dataset, image = open_images(dataset, folder, image_column or found.column("image_column", dataset))
    text = find_text_column(dataset, text_column or found.column("text_column", dataset))
    group_column = group_column or found.column("group_column", dataset)
    check_column(dataset, "group_column", group_column)
    captions = [list(captions_of(value, text)) for value in column_values(dataset, text)]
    identity = image_identities(dataset, image, group_column)
    kept = [row for row in rows if identity[row] is not None and captions[row]]
    if len(kept) < len(rows):
        logger.warning("left out %d of %d rows without an image or a caption", len(rows) - len(kept), len(rows))
    if not kept:
        raise ValueError(f"no pair is left in split {split!r}: {len(rows)} of {len(dataset)} rows met the filters")
    _, groups = index_distinct(identity[row] for row in kept)
    images = dataset.select_columns([image]).rename_columns({image: "image"})
    return _expand(images, captions, dict(zip(kept, groups, strict=True)))


def open_images(dataset: Dataset, folder: Path | None, column: str | None = None) -> tuple[Dataset, str]:
    """Rows whose paths, relative to `folder`, are files; and their one column of images, or sounds (not decoded)."""
    check_column(dataset, "image_column", column)
    sounds = [name for name, feature in dataset.features.items() if isinstance(feature, Audio)]
    for name in sounds:  # decoding takes a library; whoever encodes a file opens it
        dataset = dataset.cast_column(name, Audio(decode=False))
    names = [name for name, feature in dataset.features.items() if isinstance(feature, Image)] or sounds
    wanted = [column] if column else ["image"] if "image" in names else names
    if column in sounds:
        names = sounds
    if len(wanted) == 1 and wanted[0] in names:
        return dataset, wanted[0]
    if len(wanted) > 1:
        raise ValueError(f"image_column must choose one of the image columns {', '.join(wanted)}")
    text = [name for name, feature in dataset.features.items() if getattr(feature, "dtype", None) in _TEXT_KINDS]
    looked = []
    for name in [column] if column else [name for name in PATH_COLUMNS if name in text]:
        if name not in text or folder is None or not len(dataset):
            continue
        paths, missing = _image_files(column_values(dataset, name), ImageFinder([folder]))
        if any(paths):
            if missing:
                logger.warning(
                    "left out %d of %d rows whose image is not there; %s", len(missing), len(paths), missing[0]
                )
            kind = Audio(decode=False) if is_sound_name(next(filter(None, paths))) else Image()
            return dataset.remove_columns(name).add_column(name, paths).cast_column(name, kind), name
        if missing:
            looked.append(f"{name!r} names no file ({missing[0]}; addresses are not fetched)")
    why = f"; column {', column '.join(looked)}" if looked else ""
    asked = f"image_column {column!r} holds no images" if column else "no column of images was found"
    pass_on = "pass image_column, or `image_folder` where paths start" if why else "pass image_column"
    raise ValueError(f"{asked}; the columns are {describe_columns(dataset)}{why}; {pass_on}")


def _image_files(values: Sequence[str | None], finder: ImageFinder) -> tuple[list[str | None], list[str]]:
    """The file that each value names, or None; and what is wrong with those that name none, in words."""
    files: list[str | None] = []
    missing = []
    for row, value in enumerate(values, start=1):
        found = None
        if value:
            try:
                found = str(finder.find(value))
            except ValueError as error:
                missing.append(f"row {row}: {error}")
        files.append(found)
    return files, missing


def find_text_column(dataset: Dataset, column: str | None = None) -> str:
    """Check the name of the column of captions, or find it by its name."""
    check_column(dataset, "text_column", column)
    by_name = {name.lower(): name for name in reversed(dataset.column_names)}
    found = column or next((by_name[name] for name in TEXT_COLUMNS if name in by_name), None)
    if found is None:
        looked = f"no column of captions was found (looked for {', '.join(TEXT_COLUMNS)})"
        raise ValueError(f"{looked}; the columns are {describe_columns(dataset)}; pass text_column")
    return found


def captions_of(value: Any, column: str) -> Iterator[str]:
    """Every non-empty caption of one row: of a text, a list of texts, or records with a field `raw` or `caption`."""
    if value is None or isinstance(value, str):
        if value and value.strip():
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from captions_of(item, column)
    elif isinstance(value, dict) and (field := next((name for name in _CAPTION_FIELDS if name in value), None)):
        yield from captions_of(value[field], column)
    else:
        kind = f"a record of {', '.join(value)}" if isinstance(value, dict) else f"a {type(value).__name__}"
        known = f"text, lists of text, or records with one of {', '.join(_CAPTION_FIELDS)}"
        raise ValueError(f"text_column {column!r} must hold {known}; got {kind}")


def image_identities(dataset: Dataset, image: str, group_column: str | None = None) -> list[Any]:
    """What tells one image from another, row by row: the group column, or path or content; None without image."""
    raw = dataset.select_columns([image]).cast_column(image, type(dataset.features[image])(decode=False))
    identities = [
        record and (record["path"] if record["bytes"] is None else hashlib.sha256(record["bytes"]).digest())
        for batch in raw.iter(batch_size=64)
        for record in batch[image]
    ]
    if group_column is None:
        return identities
    values = zip(identities, column_values(dataset, group_column), strict=True)
    return [None if identity is None else str(value) for identity, value in values]


def _expand(images: Dataset, captions: list[list[str]], group_of: dict[int, int]) -> Dataset:
    """One row a caption, without copying an image: the table is stacked once per caption, then rows are picked."""
    size = len(images)
    used = [captions[row] if row in group_of else [] for row in range(size)]
    images = images.add_column("group", [group_of.get(row, -1) for row in range(size)], feature=Value("int64"))
    # every row's first caption, then every row's second, ...
    layers = [images.add_column("text", list(texts), feature=Value("string")) for texts in zip_longest(*used)]
    picked = [layer * size + row for row in range(size) for layer in range(len(used[row]))]
    return concatenate_datasets(layers).select_columns(["image", "text", "group"]).select(picked)
