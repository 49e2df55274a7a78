"""A table and its columns -> rows of image, question and answers; what is wrong with a row is said with its line."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .answers import Targets
from .question_answers import answers_of, find_targets
from .question_columns import Columns
from .question_images import ImageFinder
from .stored_images import StoredImage
from .tables import Table


SHOWN = 20
_NEEDED = {"labels": 0, "votes": 4}  # answers of a row, by targets; of any other, 1


class BadRowsError(ValueError):
    """Some rows cannot be used; the first line says how many and names one, the others list up to 20.

    Args:
        rows: One line for each: where it was read, and what is wrong with it.
        hint: What to do about them, where whoever reads the message can do it.

    Attributes:
        rows: One line for each: where it was read, and what is wrong with it.
        shown_lines: How many lines of the message a command prints.
    """

    shown_lines = SHOWN + 2

    def __init__(self, rows: Sequence[str], hint: str = "") -> None:
        self.rows = list(rows)
        count = f"{len(rows):,} bad row{'' if len(rows) == 1 else 's'}"
        first = f"{count}: {rows[0]}"
        more = [f"  {row}" for row in rows[1:SHOWN]]
        more += [f"  and {len(rows) - SHOWN:,} more"] if len(rows) > SHOWN else []
        super().__init__("\n".join([f"{first}; {hint}" if hint else first, *more]))


@dataclass(frozen=True)
class Row:
    """One question about one image, or about several.

    Attributes:
        images: Their files, or where they are stored.
        keys: What tells each from others: the SHA-256 of its content.
        question: As it is written; empty where images alone are classified.
        answers: As they are written; none where none is known.
        where: Where the row was read.
        kinds: Values of the columns of kinds.
        image_id: What the table calls the images, if it does.
    """

    images: tuple[Path | StoredImage, ...]
    keys: tuple[Hashable, ...]
    question: str
    answers: tuple[str, ...]
    where: str
    kinds: tuple[str, ...]
    image_id: str = ""


@dataclass
class Rows:
    """Rows of one table, what is wrong with the others, and how many have no image because none belongs to them.

    `targets` are what their answers are, as far as the table says so.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    without_image: int = 0
    targets: Targets | None = None


def read_rows(
    table: Table,
    columns: Columns,
    finder: ImageFinder,
    separator: str | None = None,
    targets: Targets | None = None,
    optional: bool = False,
) -> Rows:
    """Read the rows of a table, and look at every image once.

    Args:
        table: The table.
        columns: Its columns.
        finder: Finds the files that it names.
        separator: What stands between several answers in one text.
        targets: What the answers are, see [`Answers`]; found from the rows when None.
        optional: Whether a row may have no answer though others do. No row of a table needs to have one.

    Raises:
        ValueError: If no image of the table can be found; the message says where it was looked for.
    """
    unknown = [""] * len(table)
    images = table.columns[columns.image]
    questions = table.columns[columns.question] if columns.question else unknown
    cells = table.columns[columns.answer] if columns.answer else [None] * len(table)
    own_kinds = [list(map(_words, table.columns.get(name, unknown))) for name in columns.kinds]
    ids = table.columns[columns.image_id] if columns.image_id else [None] * len(table)
    answers = [_answers(cell, separator) for cell in cells]
    counts = [len(found) for found in answers if not isinstance(found, ValueError)]
    targets = targets or find_targets(counts, columns.answer)
    need = _NEEDED.get(targets or "", 1) if any(counts) else 0
    asks = any(_words(question).strip() for question in questions)
    result = Rows(bad=[f"{table.name}, {place}: {reason}" for place, reason in table.broken], targets=targets)
    unfound: list[str] = []
    for row in range(len(table)):
        value = images[row]
        if value is None or value == []:
            result.without_image += 1
            continue
        where, question = table.where(row), _words(questions[row])
        try:
            found = _find_all(finder, value, unfound) if isinstance(value, list) else [_find(finder, value, unfound)]
            if isinstance(questions[row], list | dict):
                raise ValueError(f"the question is a {type(questions[row]).__name__}; expected text")
            if asks and not question.strip():
                raise ValueError(f"the question is empty (column {columns.question!r})")
            own = answers[row]
            if isinstance(own, ValueError):
                raise own
            if len(own) < need and (own or not optional):
                raise ValueError(_too_few(len(own), need, columns))
        except ValueError as error:
            result.bad.append(f"{where}: {error}")
            continue
        keys = [image.identity if isinstance(image, StoredImage) else finder.identity(image) for image in found]
        kinds = tuple(values[row] for values in own_kinds)
        image_id = _words(ids[row]).strip()
        result.rows.append(Row(tuple(found), tuple(keys), question, own, where, kinds, image_id))
    if unfound and not result.rows and len(unfound) == len(table) - result.without_image > 1:
        raise ValueError(
            f"{table.name}: none of its {len(unfound):,} images was found; the first: {unfound[0]}; "
            f"pass image_folder, or image_column if {columns.image!r} is not it"
        )
    return result


def duplicates(rows: Sequence[Row]) -> int:
    """How many rows repeat an earlier one: the same image, question and answers."""
    return sum(count - 1 for count in Counter((row.keys, row.question, row.answers) for row in rows).values())


def _find(finder: ImageFinder, value: Any, unfound: list[str]) -> Path | StoredImage:
    """The image that a value names or is; ValueError if there is none, or it cannot be opened."""
    try:
        image = value if isinstance(value, StoredImage) else finder.find(value)
    except ValueError as error:
        unfound.append(str(error))
        raise
    if reason := finder.problem(image):
        raise ValueError(reason)
    return image


def _find_all(finder: ImageFinder, values: list[Any], unfound: list[str]) -> list[Path | StoredImage]:
    """The images of one row; a ValueError says which of them is not there."""
    found = []
    for place, value in enumerate(values, 1):
        try:
            if value is None:
                raise ValueError("there is none")
            found.append(_find(finder, value, unfound))
        except ValueError as error:
            raise ValueError(f"image {place} of {len(values)}: {error}") from error
    return found


def _answers(cell: Any, separator: str | None) -> tuple[str, ...] | ValueError:
    try:
        return answers_of(cell, separator)
    except ValueError as error:
        return error


def _too_few(found: int, need: int, columns: Columns) -> str:
    if need > 1:
        return f"{found} answer{'' if found == 1 else 's'} in column {columns.answer!r}; votes need {need} or more"
    return f"the answer is empty (column {columns.answer!r})"


def _words(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
