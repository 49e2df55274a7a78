"""A source -> the rows of each of its splits, good and bad, and what is worth knowing about them."""

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from datasets import Dataset, DatasetDict

from .answers import Targets
from .part_choice import ROLES, choose_parts
from .presets import Preset, find_preset
from .question_columns import Columns, find_columns
from .question_images import ImageFinder
from .question_rows import Row, Rows, duplicates, read_rows
from .sources import Source, source_folder
from .table_parts import find_parts, role_of
from .tables import Table


@dataclass
class ReadQuestions:
    """What was read.

    Attributes:
        rows: Good rows of `train`, `validation` and `test`; None where the source has no such split.
        origins: Split -> the name of its table.
        columns: Split -> its columns.
        bad: What is wrong with every other row, with where it was read.
        holds_classes: Whether answers are names of classes.
        targets: What several answers a row are; None where rows do not say.
        notes: What else is worth knowing, one line each.
    """

    rows: dict[str, list[Row] | None] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    holds_classes: bool = False
    targets: Targets | None = None
    notes: list[str] = field(default_factory=list)


def read_questions(
    source: Source | Dataset | DatasetDict,
    *,
    image_column: str | Sequence[str] | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    targets: Targets | None = None,
    preset: str | None = None,
    image_folder: str | os.PathLike | None = None,
    image_id_column: str | None = None,
    kind_columns: Sequence[str] | None = None,
    answer_separator: str | None = None,
    decode: bool = False,
    answered: bool = True,
    **options: Any,
) -> ReadQuestions:
    """Read every row that [`load_questions`] would use, good and bad; see there for the arguments.

    Args:
        decode: Whether every image is read to its last pixel.
        answered: Whether there must be training rows, and answers to them.

    Raises:
        ValueError: If the source cannot be read, or a column is not found.
    """
    source, known = find_preset(source, preset)
    splits = {f"{role}_split": options.pop(f"{role}_split", None) for role in ROLES}
    folders = [] if image_folder is None else [Path(image_folder)]
    if folders and not folders[0].is_dir():
        raise ValueError(f"image_folder: there is no folder {str(image_folder)!r}")
    if known.config and source in known.hub:
        options = {"name": known.config} | options
    together = [] if image_column is None or isinstance(image_column, str) else list(image_column)
    image_name = " and ".join(together) or image_column
    tables, unused = _tables(source, known, splits, options, answered)
    named: dict[str, Any] = {
        "image": image_name,
        "question": question_column,
        "answer": answer_column,
        "image_id": image_id_column,
    }
    root = None if isinstance(source, Dataset | DatasetDict) else source_folder(source)
    finders: dict[Path | None, ImageFinder] = {}
    read = ReadQuestions(rows=dict.fromkeys(ROLES), targets=targets)
    if unused and not any(splits.values()):
        read.notes.append(f"not read, for no split is in the name: {', '.join(unused)}")
    for role, table in tables.items():
        if known.prepare:
            before, table = len(table), known.prepare(table)
            if len(table) < before:
                read.notes.append(f"{table.name}: the preset keeps {len(table):,} of {before:,} rows")
        if together:
            table = table.with_joined_images(together)
        leads = not read.columns
        if leads:  # the others are read as this table is
            named = {part: name if name is not None else _own(known, part, table) for part, name in named.items()}
            columns = find_columns(table, **named, kinds=kind_columns, labelled=answered)
            named |= {"image": columns.image, "question": columns.question or "", "answer": columns.answer}
            read.holds_classes = columns.holds_classes(table)
        else:
            columns = _same_columns(table, named, known, next(iter(read.columns.values())).kinds)
            if named["answer"] and not columns.answer:
                first = next(iter(read.origins.values()))
                note = f"{table.name} has no column {named['answer']!r}, as {first} has: its answers are unknown"
                read.notes.append(note)
        if table.folder not in finders:
            own = [folder for folder in (*folders, table.folder, root) if folder is not None]
            # A table in a split's folder does not take its images from another split's.
            inside = role_of(f"{PurePath(table.name).parent.as_posix()}/_")
            finders[table.folder] = ImageFinder(own, decode, inside)
        optional = role == "test" or not answered
        found = read_rows(table, columns, finders[table.folder], answer_separator, read.targets, optional)
        if leads:
            read.targets = found.targets
        read.rows[role], read.columns[role], read.origins[role] = found.rows, columns, table.name
        read.bad += found.bad
        read.notes += _notes(role, table, columns, found)
        if not answer_separator and not columns.holds_classes(table):
            read.notes += _lists_in_answers(table, found)
    if several := _ids_of_several(read):
        values = "1 value" if several == 1 else f"{several:,} values"
        many = f"{values} of {named['image_id']!r} each name images of different content"
        read.notes.append(f"{many}; the content tells images apart")
    return read


def _tables(
    source: Any, known: Preset, splits: Mapping[str, str | None], options: dict[str, Any], train: bool
) -> tuple[dict[str, Table], list[str]]:
    parts = known.parts(source, options) if known.parts else find_parts(source, **options)
    return choose_parts(parts, train, known.splits, **splits)


def _same_columns(table: Table, named: Mapping[str, str | None], known: Preset, kinds: Sequence[str]) -> Columns:
    """The leading table's columns in another one; only a preset may say that they have other names there."""
    here = {part: name if name in table.columns else _own(known, part, table) for part, name in named.items() if name}
    missing = {part: name for part, name in named.items() if part in ("image", "question") and here.get(part) is None}
    if named["answer"]:
        here["answer"] = here["answer"] or ""
    return replace(find_columns(table, **{**here, **missing}, kinds=(), labelled=False), kinds=tuple(kinds))


def _own(known: Preset, part: str, table: Table) -> str | None:
    """The column that the preset names for a part, where the table has it."""
    return next((name for name in known.columns.get(f"{part}_column", ()) if name in table.columns), None)


def _ids_of_several(read: ReadQuestions) -> int:
    """How many image ids stand beside different images."""
    first: dict[str, tuple[Hashable, ...]] = {}
    rows = (row for own in read.rows.values() for row in own or () if row.image_id)
    return len({row.image_id for row in rows if first.setdefault(row.image_id, row.keys) != row.keys})


def _lists_in_answers(table: Table, rows: Rows) -> list[str]:
    """A note where some answers look like several in one text."""
    listed = [row.answers[0] for row in rows.rows if len(row.answers) == 1 and ", " in row.answers[0]]
    if not listed:
        return []
    many = "1 answer has a comma in it" if len(listed) == 1 else f"{len(listed):,} answers have a comma in them"
    return [f"{table.name}: {many} ({listed[0]!r}), each is one answer; answer_separator reads several out of a text"]


def _notes(role: str, table: Table, columns: Columns, rows: Rows) -> list[str]:
    found = []
    if rows.without_image:
        found.append(f"{table.name}: {rows.without_image:,} of {len(table):,} rows have no image and are left out")
    if count := duplicates(rows.rows):
        found.append(f"{table.name}: {count:,} row{'' if count == 1 else 's'} repeat image, question and answer")
    silent = sum(not row.answers for row in rows.rows)
    if rows.rows and silent == len(rows.rows):
        found.append(f"{table.name}: no row of {role} has an answer; it cannot be scored")
    elif silent and rows.targets != "labels":
        has, is_ = ("has", "is") if silent == 1 else ("have", "are")
        found.append(
            f"{table.name}: {silent:,} of {len(rows.rows):,} rows of {role} {has} no answer and {is_} not scored"
        )
    none = sum(row.answers == ("-1",) for row in rows.rows)
    if none and columns.holds_classes(table):
        shown = "1 row" if none == 1 else f"{none:,} rows"
        column = f"{table.name}: {shown} of {role} with the class -1 (column {columns.answer!r})"
        found.append(f"{column}, which often stands for none; here it is a class like any other")
    return found
