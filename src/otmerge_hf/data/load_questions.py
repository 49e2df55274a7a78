"""A folder, a table or a data set of questions about images -> training, validation and test part, checked."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from .answers import Answers, Targets
from .question_columns import CLASS_COLUMNS, Columns, find_columns
from .question_images import ImageFinder
from .question_rows import BadRowsError, Row, Rows, duplicates, read_rows
from .question_splits import as_questions, hold_out, shared_images
from .questions import QuestionSplits
from .sources import Source, source_folder
from .table_parts import ROLES, choose_parts, find_parts
from .tables import Table


logger = logging.getLogger(__name__)
_VOTES = 4  # people, from whom on their answers are votes


@dataclass
class ReadQuestions:
    """Rows of each split as they were read: good, bad, and what is worth knowing."""

    rows: dict[str, list[Row] | None]
    origins: dict[str, str]
    columns: dict[str, Columns]
    bad: list[str]
    holds_classes: bool
    notes: list[str] = field(default_factory=list)


def load_questions(
    source: Source | Dataset | DatasetDict,
    *,
    image_column: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    train_split: str | None = None,
    validation_split: str | None = None,
    test_split: str | None = None,
    targets: Targets | None = None,
    normalize: bool | None = None,
    top: int = 0,
    skip_bad: bool = False,
    seed: int = 0,
    preset: str | None = None,
    **options: Any,
) -> QuestionSplits:
    r"""Load questions about images with their answers, or images with classes, from any table.

    Every image is looked at before anything else is done. A validation or test split that the source lacks is 15 % of
    the training images, each with all its rows.

    Args:
        source: A folder with tables named by split (`questions_train.csv`, `test/metadata.jsonl`) or one table, which
            may have a column `split`; a file or a list of files (CSV, TSV, JSON, JSON lines, parquet); a name on the
            Hub; or what `datasets` has loaded.
        image_column: Column of images or of their paths, which start at the table's folder or the source's; found by
            type and name when None.
        question_column: Column of questions or statements; found by name when None; `""`: none, images alone.
        answer_column: Column of answers: text, numbers, class labels, lists of them, or records `{"answer": ...}`.
        train_split: A split, a file's name, or a slice of it as `"train[:500]"`; found by name when None.
        validation_split: Likewise; as `test_split`.
        targets: What becomes of several answers a row, see [`Answers`]; found from the rows when None.
        normalize: Whether "Yes " and "yes" are one answer; None: of answers, not of class labels.
        top: Keep that many most frequent answers (0: all).
        skip_bad: Leave out rows with something wrong, and list them in `left_out`.
        seed: Of the images held out.
        preset: Name of a known data set, see [`PRESETS`].
        **options: `image_folder`, where relative paths start as well; `split_column`; `answer_separator`, what stands
            between several answers in one text; `delimiter` of CSV files; `kind_columns`; `image_id_column`; further
            ones go to `datasets.load_dataset`.

    Raises:
        ValueError: If the source cannot be read, a column is not found, or there is nothing to learn; a
            [`BadRowsError`] if rows are bad: no image, a damaged one, an empty question or answer.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for i in range(10):
        ...     Image.new("RGB", (8, 8), (25 * i, 0, 0)).save(folder / f"{i}.png")
        >>> rows = [f"{i}.png,is it bright?,{'yes' if i > 5 else 'No'}" for i in range(10)]
        >>> _ = (folder / "questions.csv").write_text("\n".join(["image,question,answer", *rows]))
        >>> splits = load_questions(folder)
        >>> len(splits.train), len(splits.validation), len(splits.test), splits.answers.names
        (6, 2, 2, ['no', 'yes'])
    """
    columns: dict[str, Any] = {
        "image_column": image_column,
        "question_column": question_column,
        "answer_column": answer_column,
    }
    splits: dict[str, Any] = {
        "train_split": train_split,
        "validation_split": validation_split,
        "test_split": test_split,
    }
    read = read_questions(source, **columns, **splits, targets=targets, preset=preset, **options)
    if read.bad and not skip_bad:
        raise BadRowsError(read.bad)
    loaded = build_splits(read, targets=targets, normalize=normalize, top=top, seed=seed)
    for note in loaded.notes:
        logger.warning("%s", note)
    return loaded


def read_questions(
    source: Source | Dataset | DatasetDict,
    *,
    image_column: str | None = None,
    question_column: str | None = None,
    answer_column: str | None = None,
    targets: Targets | None = None,
    preset: str | None = None,
    image_folder: str | os.PathLike | None = None,
    image_id_column: str | None = None,
    kind_columns: Sequence[str] | None = None,
    answer_separator: str | None = None,
    decode: bool = False,
    **options: Any,
) -> ReadQuestions:
    """Read every row that [`load_questions`] would use, good and bad; see there for the arguments.

    Args:
        decode: Whether every image is read to its last pixel.
    """
    wanted = {f"{role}_split": options.pop(f"{role}_split", None) for role in ROLES}
    tables = choose_parts(find_parts(source, **options), **wanted)
    folders = [] if image_folder is None else [Path(image_folder)]
    if folders and not folders[0].is_dir():
        raise ValueError(f"image_folder {str(image_folder)!r} is no folder")
    root = None if isinstance(source, Dataset | DatasetDict) else source_folder(source)
    finders: dict[Path | None, ImageFinder] = {}
    read = ReadQuestions({}, {}, {}, [], False)
    named = (image_column, question_column, answer_column, kind_columns, image_id_column)
    for role, table in tables.items():
        read.rows[role] = None
        if table is None:
            continue
        columns = find_columns(table, *named, labelled=role == "train")
        if role == "train":  # the other tables are read as this one is
            named = (columns.image, columns.question or "", columns.answer, columns.kinds, image_id_column)
            read.holds_classes = columns.holds_classes(table)
        own = [folder for folder in (*folders, table.folder, root) if folder is not None]
        finder = finders.setdefault(table.folder, ImageFinder(own, decode))
        need = 0 if targets == "labels" else _VOTES if targets == "votes" else 1
        rows = read_rows(table, columns, finder, answer_separator, need)
        read.rows[role], read.columns[role], read.origins[role] = rows.rows, columns, table.name
        read.bad += rows.bad
        read.notes += _notes(role, table, rows)
    return read


def build_splits(
    read: ReadQuestions, *, targets: Targets | None = None, normalize: bool | None = None, top: int = 0, seed: int = 0
) -> QuestionSplits:
    """Make the three parts of what was read, and the answers of the training part."""
    parts, held = hold_out(read.rows, seed)
    notes = read.notes + shared_images(parts)
    for name in parts:
        if not parts[name]:
            raise ValueError(f"{name} has no row left to use ({read.origins.get(name, 'held out')})")
    train = [row.answers for row in parts["train"]]
    columns = read.columns["train"]
    if targets is None and str(columns.answer).lower() in CLASS_COLUMNS and {len(row) for row in train} - {1}:
        targets = "labels"
    spelled = (not read.holds_classes) if normalize is None else normalize
    try:
        answers = Answers.of(train, targets=targets, normalize=spelled, top=top)
    except ValueError as error:
        raise ValueError(f"{read.origins['train']}, column {columns.answer!r}: {error}") from error
    built = {
        name: as_questions(rows, columns.kinds, held.get(name) or read.origins[name]) for name, rows in parts.items()
    }
    if held:
        rest = f"{read.origins['train']}, without what is held out"
        built["train"] = replace(built["train"], origin=rest)
    for name in ("validation", "test"):
        notes += _unknown(name, parts[name], answers)
    return QuestionSplits(**built, answers=answers, left_out=read.bad, notes=notes)


def _notes(role: str, table: Table, rows: Rows) -> list[str]:
    found = []
    if rows.without_image:
        found.append(f"{table.name}: {rows.without_image:,} of {len(table):,} rows have no image and are left out")
    if count := duplicates(rows.rows):
        found.append(f"{table.name}: {count:,} row{'' if count == 1 else 's'} repeat image, question and answer")
    if rows.rows and not any(row.answers for row in rows.rows):
        found.append(f"{table.name}: no row of {role} has an answer; it cannot be scored")
    return found


def _unknown(name: str, rows: Sequence[Row], answers: Answers) -> list[str]:
    """Answers that training cannot know, in one line."""
    known = set(answers.names)
    labelled = [row.answers for row in rows if row.answers]
    lost = sum(not known & {answers.spell(answer) for answer in row} for row in labelled)
    if not lost:
        return []
    count = f"{lost:,} of {len(labelled):,} rows of {name} have no answer that training has"
    return [f"{count}; accuracy is at most {answers.ceiling(labelled):.3f}"]
