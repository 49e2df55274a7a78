"""A source of rows -> its tables by split: which file, or which of a data set's splits, is for what."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_from_disk

from .sources import Source, load_source, split_names
from .tables import TABLE_SUFFIXES, Table, dataset_table, read_table


#: What a split may be called, the first before the others.
SPLIT_WORDS = {
    "train": ("train", "training", "trainset"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "testset", "testdev"),
}
_NO_TABLE = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


@dataclass(frozen=True)
class Part:
    """One table of a source, not read yet.

    Attributes:
        names: What a user may call it; the first is shown.
        role: `train`, `validation` or `test`, where its name says so.
        read: Reads it.

    Example:
        >>> Part(("questions_val.csv",), role_of("questions_val.csv"), lambda: Table("", {}, [])).role
        'validation'
    """

    names: tuple[str, ...]
    role: str | None
    read: Callable[[], Table]


def role_of(name: str) -> str | None:
    """The split that a file's name, or else a folder above it, speaks of; None if none, or more than one.

    Example:
        >>> [role_of(name) for name in ("val2014.json", "test/metadata.csv", "values.csv", "train_val.csv")]
        ['validation', 'test', None, None]
    """
    *folders, file = name.lower().split("/")
    for part in (file.partition(".")[0], *reversed(folders)):
        words = set(re.split(r"[^a-z]+", part))
        found = [role for role, spoken in SPLIT_WORDS.items() if words & set(spoken)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def find_parts(
    source: Source | Dataset | DatasetDict,
    *,
    delimiter: str | None = None,
    split_column: str | None = None,
    **options: Any,
) -> list[Part]:
    """List the tables of a source; a single table with a column of splits counts as one for each.

    Args:
        source: A folder, a file, a list of files, a name on the Hub, or what `datasets` has loaded.
        delimiter: See [`read_table`].
        split_column: Column of splits of a single table; `split`, where there is one, when None.
        **options: For `datasets.load_dataset`: `name`, `revision`, `cache_dir`, ...

    Raises:
        ValueError: If nothing can be read there.
    """
    parts = _parts(source, delimiter, options)
    if len(parts) > 1:
        if split_column:
            raise ValueError(f"split_column is for a single table; there are {list_parts(parts)}")
        return parts
    table = parts[0].read()
    column = split_column or ("split" if "split" in table.columns else None)
    if column is None:
        return [replace(parts[0], read=partial(_same, table))]
    if column not in table.columns:
        raise ValueError(
            f"split_column: {table.name} has no column {column!r}; its columns are {', '.join(table.columns)}"
        )
    values = ["" if value is None else str(value).strip() for value in table.columns[column]]
    rows = {value: [row for row, own in enumerate(values) if own == value] for value in dict.fromkeys(values)}
    if len(rows) == 1 and not split_column:
        return [Part((*rows, *parts[0].names), role_of(next(iter(rows))), partial(_same, table))]
    # A broken row has no split: it is told with the first.
    tables = [
        replace(table.select(own), broken=[] if place else table.broken) for place, own in enumerate(rows.values())
    ]
    return [Part((value,), role_of(value), partial(_same, own)) for value, own in zip(rows, tables, strict=True)]


def _parts(source: Any, delimiter: str | None, options: dict[str, Any]) -> list[Part]:
    found = _local_parts(source, delimiter)
    if found is None:  # a name on the Hub, or files that only `datasets` reads
        names = split_names(source, **options)
        return [Part((name,), role_of(name), partial(_load, source, name, options)) for name in names]
    if options:
        raise ValueError(f"`{'`, `'.join(options)}`: no option of a source that is here; expected a name on the Hub")
    return found


def _local_parts(source: Any, delimiter: str | None) -> list[Part] | None:
    if isinstance(source, Dataset):
        return [Part(("rows",), None, partial(dataset_table, source, "rows"))]
    if isinstance(source, DatasetDict):
        return [Part((name,), role_of(name), partial(dataset_table, rows, name)) for name, rows in source.items()]
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_file() and path.suffix.lower() != ".tar":
            return [_file_part(path, path.name, delimiter)]
        if path.is_dir():
            if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
                return _local_parts(load_from_disk(str(path)), delimiter)
            files = [file for file in sorted(path.rglob("*")) if _is_table(file, path)]
            if files:
                return [_file_part(file, file.relative_to(path).as_posix(), delimiter) for file in files]
        return None
    paths = [Path(item) for item in source]
    if missing := [path for path in paths if not path.is_file()]:
        raise ValueError(f"no such file: {missing[0]}")
    if not paths:
        raise ValueError("source is an empty list; expected files")
    return [_file_part(path, path.name, delimiter) for path in paths]


def _file_part(path: Path, name: str, delimiter: str | None) -> Part:
    read = partial(read_table, path, name=name, delimiter=delimiter)
    return Part(tuple(dict.fromkeys((name, path.name, path.stem, str(path)))), role_of(name), read)


def _is_table(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return file.suffix.lower() in TABLE_SUFFIXES and not hidden and file.name not in _NO_TABLE and file.is_file()


def _load(source: Source, split: str, options: dict[str, Any]) -> Table:
    return dataset_table(load_source(source, split, **options), split)


def _same(table: Table) -> Table:
    return table


def list_parts(parts: Sequence[Part]) -> str:
    """Names of parts for a message, the first ten."""
    shown = ", ".join(part.names[0] or "''" for part in parts[:10])
    return shown if len(parts) <= 10 else f"{shown} and {len(parts) - 10} more"
