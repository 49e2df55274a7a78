"""One local file or one `datasets.Dataset` -> a table whose rows know where they were read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Image, List

from .csv_rows import decode_text, read_csv_rows
from .sources import column_values, load_source
from .stored_images import stored_image_lists, stored_images


TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


@dataclass
class Table:
    """N rows, kept by column; `str()` of it names it.

    Attributes:
        name: What messages call it: the name of its file, or of its split.
        columns: Name -> N values; images are [`StoredImage`], class labels their names.
        places: N words: "line 7" of a text file, "row 7" of anything else, both from 1.
        folder: Where relative paths start; None for rows that come from no file.
        images: Names of the columns that hold images.
        image_lists: Names of the columns that hold several images a row, each value a list.
        classes: Names of the columns that hold class labels.
        broken: (place, reason) of rows that could not be read as rows.

    Example:
        >>> table = Table("questions.csv", {"question": ["what?"]}, ["line 2"])
        >>> table.where(0), str(table)
        ('questions.csv, line 2', 'questions.csv (1 row: question)')
    """

    name: str
    columns: dict[str, list[Any]]
    places: list[str]
    folder: Path | None = None
    images: tuple[str, ...] = ()
    image_lists: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    broken: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.places)

    def __str__(self) -> str:
        return f"{self.name} ({len(self):,} row{'' if len(self) == 1 else 's'}: {', '.join(self.columns)})"

    def where(self, row: int) -> str:
        """Where a row was read, in words."""
        return f"{self.name}, {self.places[row]}"

    def with_joined_images(self, names: Sequence[str]) -> "Table":
        """The table with one more column, named `"left and right"`: each row's images of some columns, as a list.

        Raises:
            ValueError: If a column is not there.

        Example:
            >>> table = Table("rows.csv", {"left": ["1.png"], "right": ["2.png"]}, ["line 2"])
            >>> table.with_joined_images(["left", "right"]).columns["left and right"]
            [['1.png', '2.png']]
        """
        if missing := [name for name in names if name not in self.columns]:
            has = f"its columns are {', '.join(self.columns)}"
            raise ValueError(f"image_column: {self.name} has no column {missing[0]!r}; {has}")
        joined = [list(values) for values in zip(*(self.columns[name] for name in names), strict=True)]
        rows = [values if any(value is not None for value in values) else [] for values in joined]
        return replace(self, columns=self.columns | {" and ".join(names): rows})

    def select(self, rows: Sequence[int]) -> "Table":
        """Some rows, in that order."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return replace(self, columns=columns, places=[self.places[row] for row in rows])


def read_table(path: Path, *, name: str | None = None, delimiter: str | None = None) -> Table:
    r"""Read CSV, TSV, JSON (a list of records), JSON lines or parquet.

    Args:
        path: The file; its ending says what it is.
        name: What messages call it; the file's own name when None.
        delimiter: What stands between a CSV file's columns; a comma, or a tab in `.tsv`, when None.

    Raises:
        ValueError: If the file is empty, not UTF-8, has no header or another delimiter, or is none of these kinds;
            the message names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.csv"
        >>> _ = path.write_text("image,answer\n1.png,red\n")
        >>> table = read_table(path)
        >>> table.columns, table.places
        ({'image': ['1.png'], 'answer': ['red']}, ['line 2'])
    """
    name, kind = name or path.name, path.suffix.lower()
    if kind not in TABLE_SUFFIXES:
        raise ValueError(f"{name} is no table; expected a file that ends in one of {', '.join(TABLE_SUFFIXES)}")
    if path.stat().st_size == 0:
        raise ValueError(f"{name} is an empty file")
    if kind == ".parquet":
        return dataset_table(load_source(path), name, folder=path.parent)
    text = decode_text(path.read_bytes(), name, str(path))
    if kind in (".csv", ".tsv"):
        columns, lines, broken = read_csv_rows(text, name, delimiter or ("\t" if kind == ".tsv" else ","))
        return Table(name, columns, lines, path.parent, broken=broken)
    records, places, broken = _read_json(text, name, by_line=kind == ".jsonl")
    if not records and not broken:
        raise ValueError(f"{name} has no rows")
    names = dict.fromkeys(key for record in records for key in record)
    columns = {key: [record.get(key) for record in records] for key in names}
    return Table(name, columns, places, path.parent, broken=broken)


def dataset_table(dataset: Dataset, name: str, folder: Path | None = None) -> Table:
    """Rows of a `datasets.Dataset`; images stay where they are until they are opened.

    Example:
        >>> dataset_table(Dataset.from_dict({"answer": ["red"]}), "train").where(0)
        'train, row 1'
    """
    columns: dict[str, list[Any]] = {}
    images, lists, classes = [], [], []
    for column, feature in dataset.features.items():
        if (kind := _written_elsewhere(feature)) is not None:
            dataset = dataset.cast_column(column, kind)
            feature = kind
        if isinstance(feature, Image):
            columns[column] = stored_images(dataset, column)
            images.append(column)
        elif isinstance(feature, List) and isinstance(feature.feature, Image):
            columns[column] = stored_image_lists(dataset, column)
            lists.append(column)
        elif isinstance(feature, ClassLabel):
            numbers = column_values(dataset, column)
            columns[column] = [None if n is None or n < 0 else feature.int2str(n) for n in numbers]
            classes.append(column)
        else:
            columns[column] = column_values(dataset, column)
    places = [f"row {row + 1}" for row in range(len(dataset))]
    return Table(name, columns, places, folder, tuple(images), tuple(lists), tuple(classes))


def _written_elsewhere(feature: Any) -> Any:
    """The type of images, or lists of them, that another program than `datasets` wrote; None of anything else."""
    inner = feature.feature if isinstance(feature, List) else feature
    if not isinstance(inner, dict) or set(inner) != {"bytes", "path"}:
        return None
    return List(Image()) if isinstance(feature, List) else Image()


def _read_json(text: str, name: str, by_line: bool) -> tuple[list[dict[str, Any]], list[str], list[tuple[str, str]]]:
    """Records, their places, and what is no record; a record on every line is read as such in any file."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    broken: list[tuple[str, str]] = []
    values: list[tuple[str, Any]] = []
    if by_line or (len(lines) > 1 and _is_record(lines[0][1])):
        for number, line in lines:
            try:
                values.append((f"line {number}", json.loads(line)))
            except (json.JSONDecodeError, RecursionError) as error:
                broken.append((f"line {number}", f"no JSON: {getattr(error, 'msg', 'too deeply nested')}"))
    else:
        values = [(f"row {number}", item) for number, item in enumerate(_list_of(text, name), 1)]
    broken += [(place, f"no record, but {str(item)[:40]!r}") for place, item in values if not isinstance(item, dict)]
    records = [(place, item) for place, item in values if isinstance(item, dict)]
    return [item for _, item in records], [place for place, _ in records], broken


def _list_of(text: str, name: str) -> list[Any]:
    """The list that a JSON text is, or the only one that it holds."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}, line {error.lineno}: no JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{name}: no JSON: too deeply nested") from error
    lists = [value for value in whole.values() if isinstance(value, list)] if isinstance(whole, dict) else [whole]
    if len(lists) != 1 or not isinstance(lists[0], list):
        kind = f"a record of {', '.join(whole)}" if isinstance(whole, dict) else f"a {type(whole).__name__}"
        raise ValueError(f"{name} is {kind[:80]}; expected a list of records, or a record on every line")
    return lists[0]


def _is_record(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (json.JSONDecodeError, RecursionError):
        return False
