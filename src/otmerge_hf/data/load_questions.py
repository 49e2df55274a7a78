"""A folder, a table or a data set of questions about images -> training, validation and test part, checked."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset, DatasetDict

from .answers import Answers, Targets
from .presets import find_preset
from .question_rows import BadRowsError, Row
from .question_splits import as_questions, hold_out, shared_images
from .questions import QuestionSplits
from .read_questions import ReadQuestions, read_questions
from .sources import Source, describe_source


logger = logging.getLogger(__name__)


def load_questions(
    source: Source | Dataset | DatasetDict,
    *,
    image_column: str | Sequence[str] | None = None,
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
            type and name when None. Rows about several images have a list in it; or name several columns.
        question_column: Column of questions or statements; found by name when None; `""`: none, images alone.
        answer_column: Column of answers: text, numbers, class labels, lists of them, or records `{"answer": ...}`.
        train_split: A split, a file's name, or a slice of it as `"train[:500]"`; found by name when None.
        validation_split: Likewise; as `test_split`. Of a table sliced for them, training gets the rest.
        targets: What becomes of several answers a row, see [`Answers`]; found from the rows when None.
        normalize: Whether "Yes " and "yes" are one answer; None: of answers, not of class labels.
        top: Keep that many most frequent answers (0: all).
        skip_bad: Leave out rows with something wrong, and list them in `left_out`.
        seed: Of the images held out.
        preset: Name of a known data set, see [`PRESETS`].
        **options: `image_folder`, where relative paths start as well; `split_column`; `answer_separator`, what stands
            between several answers in one text; `delimiter` of CSV files; `kind_columns`; `image_id_column`, which is
            compared with the images' content; further ones go to `datasets.load_dataset`.

    Raises:
        ValueError: If the source cannot be read, a column is not found, or there is nothing to learn; a
            [`BadRowsError`] if rows are bad: no image, a damaged one, an empty question or answer.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
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
        raise BadRowsError(read.bad, "pass skip_bad to leave bad rows out")
    loaded = build_splits(read, normalize=normalize, top=top, seed=seed)
    if read.bad:
        loaded.notes.insert(0, f"{len(read.bad):,} bad rows are left out; the first: {read.bad[0]}")
    for note in loaded.notes:
        logger.warning("%s", note)
    found, known = find_preset(source, preset)
    return replace(loaded, source=describe_source(found, on_hub=not known.parts or found in known.hub))


def build_splits(read: ReadQuestions, *, normalize: bool | None = None, top: int = 0, seed: int = 0) -> QuestionSplits:
    """Make the three parts of what was read, and the answers of the training part.

    Raises:
        ValueError: If a part has no row, training or validation no answer, or there are too few images or answers.
    """
    parts, held = hold_out(read.rows, seed)
    notes = read.notes + shared_images(parts)
    for name in parts:
        if not parts[name]:
            raise ValueError(f"{name} has no row left to use ({read.origins.get(name, 'held out')})")
        # Of images held out it may well be that no label is true.
        if name != "test" and name not in held and not any(row.answers for row in parts[name]):
            raise ValueError(_unanswered(name, read))
    train = [row.answers for row in parts["train"]]
    columns = read.columns["train"]
    spelled = (not read.holds_classes) if normalize is None else normalize
    try:
        answers = Answers.of(train, targets=read.targets, normalize=spelled, top=top)
    except ValueError as error:
        raise ValueError(f"{read.origins['train']}, column {columns.answer!r}: {error}") from error
    built: dict[str, Any] = {
        name: as_questions(rows, columns.kinds, held.get(name) or read.origins[name]) for name, rows in parts.items()
    }
    if held:
        rest = f"{read.origins['train']}, without what is held out"
        built["train"] = replace(built["train"], origin=rest)
    for name in ("validation", "test"):
        notes += _unknown(name, parts[name], answers)
    return QuestionSplits(**built, answers=answers, left_out=read.bad, notes=notes)


def _unanswered(name: str, read: ReadQuestions) -> str:
    column = read.columns[name].answer
    where = f"no row of {read.origins[name]} has an answer" + (f" (column {column!r})" if column else "")
    other = "answer_column, or another train_split" if name == "train" else f"another {name}_split"
    return f"{name}: {where}; pass {other}"


def _unknown(name: str, rows: Sequence[Row], answers: Answers) -> list[str]:
    """Answers that training cannot know, in one line."""
    known = set(answers.names)
    labelled = [row.answers for row in rows if row.answers]
    lost = [row for row in labelled if not known & {answers.spell(answer) for answer in row}]
    if not lost:
        return []
    which = f"none of the {len(known):,} answers that training gives ({lost[0][0]!r}, say)"
    count = f"{len(lost):,} of {len(labelled):,} rows of {name} have {which}"
    return [f"{count}; accuracy is at most {answers.ceiling(labelled):.3f}"]
