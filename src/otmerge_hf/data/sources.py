"""A folder, files or a Hub name -> rows of `datasets`, with one-line errors that say what was found."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, Value, get_dataset_split_names, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.inspect import SplitsNotFoundError


Source = str | os.PathLike | Sequence[str | os.PathLike]
# Ending of a file -> the builder of `datasets` that reads it.
BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".tar": "webdataset"}
# Errors of `datasets` that say that a source cannot be read.
_UNREADABLE = (ValueError, OSError, RuntimeError, DatasetGenerationError, DatasetNotFoundError)
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
    except _UNREADABLE as error:
        if found := re.search(r"Unknown split .*?\. Should be one of (\[.*?\])", str(error)):
            raise ValueError(f"split {split!r} is not in {_shown(source)}; it has {found[1]}") from error
        raise _unreadable(source, error) from error


def stream_source(source: Source, split: str, limit: int, columns: Sequence[str] = (), **options: Any) -> Dataset:
    """Load the first rows of a split without fetching the rest; they are kept where `datasets` keeps its own.

    Args:
        source: As in [`load_source`], as for `options`.
        split: A split, not a slice of one.
        limit: Rows to read, at most.
        columns: Columns to keep; all when empty.

    Raises:
        ValueError: As in [`load_source`].
    """
    if "[" in split:
        raise ValueError(f"split {split!r} is a slice, which a stream has not; pass the split and limit")
    path, files = _resolve(source)
    try:
        rows = load_dataset(path, split=split, streaming=True, **files, **options)
        features = rows._resolve_features().features
        if columns:
            features = Features({name: features[name] for name in columns if name in features})
        stored = {name: Image(decode=False) if isinstance(kind, Image) else kind for name, kind in features.items()}
        stamp = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in _files(source))
        # tuples: lists would be taken for shards
        given = {"path": path, "split": split, "limit": limit, "stamp": stamp, "names": tuple(features)}
        given |= {"options": files | options}
        dataset = Dataset.from_generator(_first_rows, features=Features(stored), gen_kwargs=given)
        return dataset.cast(features)
    except _UNREADABLE as error:
        raise _unreadable(source, error) from error


def _first_rows(
    path: str, split: str, limit: int, stamp: Any, names: tuple[str, ...], options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Rows of a stream, images not decoded. What it is given names the cached copy: `stamp` says which files."""
    rows = load_dataset(path, split=split, streaming=True, **options).select_columns(list(names))
    for name, kind in (rows.features or {}).items():
        if isinstance(kind, Image):
            rows = rows.cast_column(name, Image(decode=False))
    yield from rows.take(limit)


def _files(source: Source) -> list[Path]:
    """Files that a local source consists of."""
    if not isinstance(source, str | os.PathLike):
        return [Path(item) for item in source]
    path = Path(source)
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path][: path.is_file()]


def split_names(source: Source, **options: Any) -> list[str]:
    """Names of the splits that [`load_source`] can load; files have one, `train`.

    Raises:
        ValueError: If nothing is found there or it cannot be read.
    """
    path, files = _resolve(source)
    try:
        return list(get_dataset_split_names(path, options.pop("name", None), **files, **options))
    except _UNREADABLE as error:
        raise _unreadable(source, error) from error


def describe_source(source: Any, on_hub: bool = True) -> dict[str, str | None]:
    """What a source is called, `name`, without folders of this machine, and its name on the `hub`, if it has one.

    Args:
        source: As of [`load_source`], or rows in memory.
        on_hub: Whether what is no file here comes from the Hub.

    Example:
        >>> describe_source("lmms-lab/VQAv2"), describe_source(Path("/home/me/pictures"))["name"]
        ({'name': 'lmms-lab/VQAv2', 'hub': 'lmms-lab/VQAv2'}, 'pictures')
    """
    several = isinstance(source, Sequence) and not isinstance(source, str)
    if not (several or isinstance(source, str | os.PathLike)):
        return {"name": "rows in memory", "hub": None}
    paths = [Path(item) for item in source] if several else [Path(source)]
    hub = on_hub and not several and not paths[0].exists() and _HUB_NAME.fullmatch(str(source))
    return {
        "name": str(source) if hub else ", ".join(path.absolute().name for path in paths),
        "hub": str(source) if hub else None,
    }


def source_folder(source: Source) -> Path | None:
    """Folder that relative paths inside the source start from; None for a name on the Hub."""
    first = Path(source if isinstance(source, str | os.PathLike) else source[0])
    return first if first.is_dir() else first.parent if first.is_file() else None


def matching_rows(dataset: Dataset, conditions: Sequence[str]) -> list[int]:
    """Row numbers where every `"column=value"` or `"column!=value"` holds, as text; class labels by their name."""
    keep = list(range(len(dataset)))
    for condition in conditions:
        parts = _CONDITION.fullmatch(condition)
        if parts is None:
            raise ValueError(f"filter must be COLUMN=VALUE or COLUMN!=VALUE; got {condition!r}")
        column = parts["column"].strip()
        check_column(dataset, "filter", column)
        values, feature = column_values(dataset, column), dataset.features[column]
        if isinstance(feature, ClassLabel):
            values = [None if value is None else feature.int2str(value) for value in values]
        keep = [row for row in keep if (str(values[row]) == parts["value"].strip()) is (parts["operator"] == "=")]
    return keep


def column_values(dataset: Dataset, column: str) -> list[Any]:
    """All values of a column, without decoding the others."""
    return dataset.select_columns([column])[:][column]


def check_column(dataset: Dataset, argument: str, column: str | None) -> None:
    """Refuse the name of a column that the rows do not have, with a ValueError that lists those they have."""
    if column is not None and column not in dataset.column_names:
        raise ValueError(f"{argument} names column {column!r}; the columns are {describe_columns(dataset)}")


def describe_columns(dataset: Dataset) -> str:
    """Columns and their kinds in one line: "text (string), id (int64)"."""
    kinds = [kind.dtype if isinstance(kind, Value) else type(kind).__name__ for kind in dataset.features.values()]
    return ", ".join(f"{name} ({kind})" for name, kind in zip(dataset.features, kinds, strict=True))


def _resolve(source: Source) -> tuple[str, dict[str, Any]]:
    """First argument and files for `load_dataset`."""
    several = not isinstance(source, str | os.PathLike)
    paths = [Path(item) for item in source] if several else [Path(source)]  # type: ignore[union-attr, arg-type]
    if not several and paths[0].is_dir():
        return str(paths[0]), {}
    if paths and all(path.is_file() for path in paths):
        builder, *others = {BUILDERS.get(path.suffix.lower()) for path in paths}
        if others or builder is None:
            known = ", ".join(BUILDERS)
            raise ValueError(f"source {_shown(source)} must be files of one kind out of {known}, or a folder")
        return builder, {"data_files": {"train": [str(path) for path in paths]}}
    if several or not _HUB_NAME.fullmatch(str(source)):
        missing = next((path for path in paths if not path.exists()), paths[0] if paths else None)
        raise ValueError(f"source: no such file or folder: {missing}")
    return str(source), {}


def _unreadable(source: Source, error: Exception) -> ValueError:
    reason = _first_line(error)
    if "scripts are no longer supported" in str(error):
        reason += "; look for a parquet copy of it, or download it and pass the files"
    elif isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        reason = f"its files cannot be read together: {_first_line(error.__cause__)}; pass some of the files"
    elif isinstance(error, SplitsNotFoundError) and error.__cause__ is not None:  # says no more than that they are not
        reason = _first_line(error.__cause__)
    kind = "" if source_folder(source) else " is no file or folder here, and as a name on the Hub"
    return ValueError(f"source {_shown(source)}{kind}: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _shown(source: Source) -> str:
    return repr(str(source)) if isinstance(source, str | os.PathLike) else repr([str(item) for item in source])
