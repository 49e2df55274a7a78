"""Well-known sets of images with captions by name: which columns, which splits, whether they are read as a stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .sources import Source


@dataclass(frozen=True)
class CaptionPreset:
    """How one set of images with captions is read; whatever the caller names goes before it.

    Attributes:
        hub: Names on the Hub; the first is read where the preset's own name is given as the source.
        columns: Arguments of [`load_pairs`] that name columns; of several names, the first that is there.
        path_columns: Columns that make the path of an image together, folder first, where no column holds images.
        split_column: Column of splits, of a source that has one split with all rows.
        json_field: Where the rows are in a JSON file.
        streams: Whether it is too large to be fetched whole.
    """

    hub: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    path_columns: tuple[str, ...] = ()
    split_column: str = ""
    json_field: str = ""
    streams: bool = False


#: Name -> how it is read. Column names are those of the Hub's copies of 2025, and of Karpathy's own JSON files.
CAPTION_PRESETS: dict[str, CaptionPreset] = {
    "coco-karpathy": CaptionPreset(
        hub=("bitmind/MS-COCO-unique", "bitmind/MS-COCO", "yerevann/coco-karpathy"),
        columns={"image_column": ("image",), "text_column": ("sentences",), "group_column": ("cocoid",)},
        path_columns=("filepath", "filename"),
        split_column="split",
        json_field="images",
    ),
    "flickr30k": CaptionPreset(
        hub=("umaru97/flickr30k_train_val_test", "lmms-lab/flickr30k"),
        columns={
            "image_column": ("image",),
            "text_column": ("caption", "sentences"),
            "group_column": ("img_id", "imgid"),
        },
        path_columns=("filename",),
        split_column="split",
        json_field="images",
    ),
    "cc3m": CaptionPreset(
        hub=("pixparse/cc3m-wds",),
        columns={"image_column": ("jpg",), "text_column": ("txt",)},
        streams=True,
    ),
}


def find_caption_preset(source: Source, name: str | None = None) -> tuple[Source, CaptionPreset]:
    """The source to read, and how: the preset of that name, or the one that the source is a name of.

    Raises:
        ValueError: If there is no such preset.

    Example:
        >>> source, preset = find_caption_preset("flickr30k")
        >>> source, preset.split_column
        ('umaru97/flickr30k_train_val_test', 'split')
    """
    if name is not None and name not in CAPTION_PRESETS:
        raise ValueError(f"`preset` is {name!r}; expected one of {', '.join(CAPTION_PRESETS)}")
    own = source if isinstance(source, str) and not Path(source).exists() else None
    known = own if own in CAPTION_PRESETS else None
    asked = name or known or next((key for key, preset in CAPTION_PRESETS.items() if own in preset.hub), None)
    if asked is None:
        return source, CaptionPreset()
    preset = CAPTION_PRESETS[asked]
    return (preset.hub[0] if own == asked else source), preset
