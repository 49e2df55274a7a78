"""A source of images with captions, as its preset says it is read -> the rows of one of its splits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset, Image
from PIL import Image as PillowImage

from .caption_presets import CaptionPreset, find_caption_preset
from .question_images import is_sound_name
from .sources import (
    BUILDERS,
    Source,
    check_column,
    column_values,
    load_source,
    matching_rows,
    source_folder,
    split_names,
    stream_source,
)
from .tables import read_table


# What a column of splits says, by the split that it means. Karpathy's `restval` is trained on.
_WORDS = {"train": ("train", "restval"), "validation": ("val", "validation", "valid", "dev"), "test": ("test",)}
_JOINED = "image_path"


@dataclass(frozen=True)
class CaptionSource:
    """One source; arguments as of [`load_pairs`], the preset's where the caller says nothing.

    Example:
        >>> import tempfile
        >>> file = f"{tempfile.mkdtemp()}/rows.parquet"
        >>> _ = Dataset.from_dict({"caption": ["a", "b"], "split": ["restval", "test"]}).to_parquet(file)
        >>> found = CaptionSource.of(file, preset="flickr30k")
        >>> found.splits, found.load("train")[1]
        (['train', 'test'], [0])
    """

    source: Source
    preset: CaptionPreset
    split_column: str | None
    limit: int | None
    options: dict[str, Any]

    @classmethod
    def of(
        cls,
        source: Source,
        preset: str | None = None,
        split_column: str | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> "CaptionSource":
        """Find the preset.

        Raises:
            ValueError: If there is no such preset, the limit is none, or it is needed and missing.
        """
        source, known = find_caption_preset(source, preset)
        source, options = _table_of(source), {name: value for name, value in options.items() if value is not None}
        if isinstance(source, str | os.PathLike) and Path(source).is_file() and Path(source).suffix.lower() == ".csv":
            table = read_table(Path(source), delimiter=options.get("delimiter"))  # which says what is wrong, and where
            if table.broken:
                place, reason = table.broken[0]
                raise ValueError(f"{table.name}, {place}: {reason}")
        if limit is not None and limit < 1:
            raise ValueError(f"`limit` is {limit}; expected the number of rows to read")
        if limit is None and known.streams and source_folder(source) is None:
            raise ValueError(f"source {str(source)!r} has millions of rows; pass `limit`, how many to read")
        if known.json_field and isinstance(source, str | os.PathLike) and str(source).endswith(".json"):
            options = {"field": known.json_field} | options
        return cls(source, known, split_column, limit, options)

    @property
    def splits(self) -> list[str]:
        """Names of its splits: those that a column tells apart, or the source's own."""
        return self._in_column or self._own

    def load(
        self, split: str, columns: Sequence[str | None] = (), filters: Sequence[str] = ()
    ) -> tuple[Dataset, list]:
        """The rows that a split is in, and the numbers of those that belong to it and meet the filters.

        Args:
            split: One of `splits`, or a slice of the source's own.
            columns: Columns of images, captions and groups that the caller names; None where the preset does.
            filters: As in [`load_pairs`].
        """
        part = self._own[0] if self._in_column else split
        if self.limit is None:
            dataset = load_source(self.source, part, **self.options)
        else:
            known = [name for names in self.preset.columns.values() for name in names] + [*self.preset.path_columns]
            # a stream reads what is needed; without a preset that is not known before
            needed = [] if filters or not known else [*filter(None, columns), *known]
            dataset = stream_source(self.source, part, self.limit, needed, **self.options)
        rows = matching_rows(dataset, filters)
        if self._in_column:
            if split not in self._in_column:
                raise ValueError(f"split {split!r} is not in {self._column!r}; it has {', '.join(self._in_column)}")
            values = column_values(dataset, self._column)
            rows = [row for row in rows if values[row] in _WORDS[split]]
        return self._with_paths(dataset), rows

    def column(self, argument: str, dataset: Dataset) -> str | None:
        """The column that the preset names for an argument of [`load_pairs`], where the rows have it."""
        if argument == "image_column" and _JOINED in dataset.column_names:
            return _JOINED
        names = self.preset.columns.get(argument, ())
        return next((name for name in names if name in dataset.column_names), None)

    @cached_property
    def _own(self) -> list[str]:
        return split_names(self.source, **self.options)

    @property
    def _column(self) -> str:
        return self.split_column or self.preset.split_column

    @cached_property
    def _in_column(self) -> list[str]:
        """Splits that a column tells apart, of a source that has one with all rows."""
        asked = self.split_column
        if asked and (self.limit or len(self._own) > 1):
            raise ValueError(f"split_column is for one split that is read whole; there are {', '.join(self._own)}")
        if self.limit or not self._column or len(self._own) > 1:
            return []
        dataset = load_source(self.source, self._own[0], **self.options)
        check_column(dataset, "split_column", asked)
        if self._column not in dataset.column_names:
            return []
        values = set(column_values(dataset, self._column))
        found = [split for split, words in _WORDS.items() if values & set(words)]
        if asked and not found:
            raise ValueError(
                f"split_column {asked!r} holds {', '.join(sorted(map(str, values))[:5])}; expected splits"
            )
        return found if asked or len(found) > 1 else []

    def _with_paths(self, dataset: Dataset) -> Dataset:
        """Rows with paths that several columns make together, where no column holds images."""
        parts = [name for name in self.preset.path_columns if name in dataset.column_names]
        if not parts or any(isinstance(feature, Image) for feature in dataset.features.values()):
            return dataset
        values = [column_values(dataset, name) for name in parts]
        paths = [None if None in row else Path(*row).as_posix() for row in zip(*values, strict=True)]
        return dataset.add_column(_JOINED, paths)


def _table_of(source: Source) -> Source:
    """The table of a folder that has one beside its images; the source itself where `datasets` reads the folder.

    It reads a folder of images by their `metadata` files, if these have a column `file_name`, and takes no notice of a
    table of another name. A folder of sounds it reads with a library that is not among ours: their one table is taken,
    whatever its name.
    """
    folder = Path(source) if isinstance(source, str | os.PathLike) else None
    if folder is None or not folder.is_dir():
        return source
    files, images = [file for file in folder.rglob("*") if file.is_file()], PillowImage.registered_extensions()
    pictures = any(file.suffix.lower() in images for file in files)
    sounds = not pictures and any(map(is_sound_name, files))
    if not sounds and any(file.stem == "metadata" and _names_files(file) for file in files):
        return source
    tables = sorted(file for file in folder.iterdir() if file.suffix.lower() in BUILDERS and file.suffix != ".tar")
    if sounds and not tables:
        expected = "expected a table beside them (file_name, text; and split, where it has several)"
        raise ValueError(f"source {str(source)!r} holds sounds, and no table: {expected}")
    if not tables or not (pictures or sounds):
        return source
    if len(tables) > 1:
        names = ", ".join(file.name for file in tables[:5])
        raise ValueError(f"source {str(source)!r} has {len(tables)} tables ({names}); pass one of them")
    return tables[0]


def _names_files(metadata: Path) -> bool:
    """Whether `datasets` finds the files that a metadata file speaks of: by `file_name`, `left_file_name`, ..."""
    if metadata.suffix.lower() not in (".csv", ".jsonl"):
        return True
    with metadata.open("rb") as file:
        return b"file_name" in file.readline()
