"""Text with columns -> rows that know their line; what is wrong with the file is said with its line."""

import csv
import io
import re
import shlex
from typing import Any


_OTHER_DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar", ",": "a comma"}
_PICTURE = re.compile(r"\.(png|jpe?g|webp|gif|bmp|tiff?|ppm)$", flags=re.IGNORECASE)


def decode_text(data: bytes, name: str, path: str = "") -> str:
    r"""Text of a UTF-8 file, with or without byte order mark.

    Args:
        data: Bytes of the file.
        name: What messages call it.
        path: Where it is, for the command that converts it; `name` when empty.

    Raises:
        ValueError: If it is not UTF-8; the message names the line and says how to convert the file.

    Example:
        >>> decode_text("\ufeffcafé".encode(), "rows.csv")
        'café'
    """
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        if wide:
            raise ValueError(f"{name} is UTF-16; {_convert('UTF-16', path or name)}")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"{name}, line {line}: byte {error.start + 1} (0x{data[error.start]:02x}) is not UTF-8"
        raise ValueError(f"{what}; if the file is Latin-1, {_convert('ISO-8859-1', path or name)}") from error
    if not text.strip():
        raise ValueError(f"{name} is an empty file")
    return text


def _convert(encoding: str, path: str) -> str:
    path = shlex.quote(path)
    return f"convert it: iconv -f {encoding} -t UTF-8 {path} > converted && mv converted {path}"


def read_csv_rows(
    text: str, name: str, delimiter: str = ","
) -> tuple[dict[str, list[Any]], list[str], list[tuple[str, str]]]:
    r"""Columns by the header's names, the place of each row, and (place, reason) of the rows with too few fields.

    Raises:
        ValueError: If the header is missing, names a column twice, or has another delimiter; if a quote stays open.

    Example:
        >>> read_csv_rows("image,answer\n1.png,red\n2.png\n", "rows.csv")
        ({'image': ['1.png'], 'answer': ['red']}, ['line 2'], [('line 3', '1 field, where the header has 2')])
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            lost = "unexpected end" in str(error) or "field limit" in str(error)
            reason = "a quote opens here and is not closed" if lost else str(error)
            raise ValueError(f"{name}, line {start}: {reason}") from error
        if fields:
            rows.append((start, fields))
    header = [field.strip() for field in rows[0][1]]
    _check_header(header, rows[0][0], name, delimiter)
    broken, kept = [], []
    for line, fields in rows[1:]:
        if len(fields) == len(header):
            kept.append((line, fields))
            continue
        count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}, where the header has {len(header)}"
        more = (
            '; text that holds a comma needs quotes ("...")' if len(fields) > len(header) and delimiter == "," else ""
        )
        broken.append((f"line {line}", count + more))
    if not kept and not broken:
        raise ValueError(f"{name} has a header and no rows")
    columns = {column: [fields[place] for _, fields in kept] for place, column in enumerate(header) if column}
    return columns, [f"line {line}" for line, _ in kept], broken


def _check_header(header: list[str], line: int, name: str, delimiter: str) -> None:
    if len(header) == 1:
        for other, words in _OTHER_DELIMITERS.items():
            if other != delimiter and other in header[0]:
                found = f"the header has one column, {header[0]!r}, with {words} in it"
                raise ValueError(
                    f"{name}, line {line}: {found}; pass `delimiter` {other!r}, or write the file with commas"
                )
    if any(_PICTURE.search(field) for field in header):
        shown = delimiter.join(header)
        raise ValueError(
            f"{name}, line {line}: {shown[:80]!r} is a row; expected a header such as image,question,answer"
        )
    named = [column for column in header if column]
    if len(set(named)) < len(named):
        twice = next(column for column in named if named.count(column) > 1)
        raise ValueError(f"{name}, line {line}: the header names column {twice!r} twice")
