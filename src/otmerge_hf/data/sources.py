"""A folder, files or a Hub name -> rows of `datasets`, with one-line errors that say what was found."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Value, get_dataset_split_names, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError


Source = str | os.PathLike | Sequence[str | os.PathLike]
# Ending of a file -> the builder of `datasets` that reads it.
BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".tar": "webdataset"}
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_CONDITION = re.compile(r"(?P<column>[^!=]+)(?P<operator>!?=)(?P<value>.*)", flags=re.DOTALL)


def load_source(source: Source, split: str = "train", **options: Any) -> Dataset:
    """Load one split of a folder, of files, or of a data set on the Hub.

    Args:
        source: A folder (images with `metadata.csv`, or parquet, json, webdataset files named by split), one
            file or a list of files of one kind (their split is `train`), or a name on the Hub.
        split: A split, or a slice such as `"train[:100]"`.
        **options: For `datasets.load_dataset`: `name`, `revision`, `cache_dir`, ...

    Raises:
        ValueError: If nothing is found there, it cannot be read, or the split does not exist.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> _ = file.write_text('{"text": "a dog"}')
        >>> load_source(file)["text"][0]
        'a dog'
    """
    path, files = _resolve(source)
    try:
        return load_dataset(path, split=split, **files, **options)
    except ValueError as error:
        if found := re.search(r"Unknown split .*?\. Should be one of (\[.*?\])", str(error)):
            raise ValueError(f"split {split!r} is not in {_shown(source)}; it has {found[1]}") from error
        raise ValueError(f"source {_shown(source)}: {_first_line(error)}") from error
    except _UNREADABLE as error:
        raise _unreadable(source, error) from error


def split_names(source: Source, **options: Any) -> list[str]:
    """Names of the splits that [`load_source`] can load; files have one, `train`.

    Raises:
        ValueError: If nothing is found there or it cannot be read.
    """
    path, files = _resolve(source)
    name = options.pop("name", None)
    try:
        return list(get_dataset_split_names(path, name, **files, **options))
    except (ValueError, *_UNREADABLE) as error:
        raise _unreadable(source, error) from error


def source_folder(source: Source) -> Path | None:
    """Folder that relative paths inside the source start from; None for a name on the Hub."""
    first = Path(source if isinstance(source, str | os.PathLike) else source[0])
    return first if first.is_dir() else first.parent if first.is_file() else None


def matching_rows(dataset: Dataset, conditions: Sequence[str]) -> list[int]:
    """Row numbers where every `"column=value"` or `"column!=value"` holds, as text; class labels by their name.

    Raises:
        ValueError: If a condition is of another form or its column does not exist.

    Example:
        >>> matching_rows(Dataset.from_dict({"kind": ["flag", "food"], "id": [1, 2]}), ["kind!=flag", "id=2"])
        [1]
    """
    keep = list(range(len(dataset)))
    for condition in conditions:
        parts = _CONDITION.fullmatch(condition)
        if parts is None:
            raise ValueError(f"filter must be COLUMN=VALUE or COLUMN!=VALUE; got {condition!r}")
        column = parts["column"].strip()
        check_column(dataset, "filter", column)
        values = dataset.select_columns([column])[:][column]
        feature = dataset.features[column]
        if isinstance(feature, ClassLabel):
            values = [None if value is None else feature.int2str(value) for value in values]
        equal = parts["operator"] == "="
        keep = [row for row in keep if (str(values[row]) == parts["value"].strip()) is equal]
    return keep


def check_column(dataset: Dataset, argument: str, column: str) -> None:
    """Refuse a column that the rows do not have, with a ValueError that lists those they have."""
    if column not in dataset.column_names:
        raise ValueError(f"{argument} names column {column!r}; the columns are {describe_columns(dataset)}")


def describe_columns(dataset: Dataset) -> str:
    """Columns and their kinds in one line: "text (string), id (int64)"."""
    columns = dataset.features.items()
    return ", ".join(
        f"{name} ({kind.dtype if isinstance(kind, Value) else type(kind).__name__})" for name, kind in columns
    )


_UNREADABLE = (OSError, RuntimeError, DatasetGenerationError, DatasetNotFoundError)


def _resolve(source: Source) -> tuple[str, dict[str, Any]]:
    """First argument and files for `load_dataset`."""
    several = not isinstance(source, str | os.PathLike)
    paths = [Path(item) for item in source] if several else [Path(source)]  # type: ignore[union-attr, arg-type]
    if not several and paths[0].is_dir():
        return str(paths[0]), {}
    if paths and all(path.is_file() for path in paths):
        builders = {BUILDERS.get(path.suffix.lower()) for path in paths}
        builder = builders.pop()
        if builders or builder is None:
            known = ", ".join(BUILDERS)
            raise ValueError(f"source {_shown(source)} must be files of one kind out of {known}, or a folder")
        return builder, {"data_files": {"train": [str(path) for path in paths]}}
    if several or not _HUB_NAME.fullmatch(str(source)):
        missing = next((path for path in paths if not path.exists()), paths[0] if paths else None)
        raise ValueError(f"source: no such file or folder: {missing}")
    return str(source), {}


def _unreadable(source: Source, error: Exception) -> ValueError:
    if "scripts are no longer supported" in str(error):
        reason = f"{_first_line(error)}; look for a parquet copy of it, or download it and pass the files"
    elif isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        reason = f"its files cannot be read together: {_first_line(error.__cause__)}; pass some of the files"
    else:
        reason = _first_line(error)
    kind = "" if source_folder(source) else " is no file or folder here, and as a name on the Hub"
    return ValueError(f"source {_shown(source)}{kind}: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _shown(source: Source) -> str:
    return repr(str(source)) if isinstance(source, str | os.PathLike) else repr([str(item) for item in source])
