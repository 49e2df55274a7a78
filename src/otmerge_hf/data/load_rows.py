"""A table of questions about images -> all of its rows, with answers or without: nothing is held out."""

import logging
from typing import Any, Literal

from datasets import Dataset, DatasetDict

from .question_rows import BadRowsError
from .question_splits import as_questions
from .questions import Questions
from .read_questions import read_questions
from .sources import Source


logger = logging.getLogger(__name__)


def load_rows(
    source: Source | Dataset | DatasetDict,
    *,
    part: Literal["train", "validation", "test"] | None = None,
    skip_bad: bool = False,
    **options: Any,
) -> Questions:
    r"""Load the rows of a table to answer, or to score a merge on.

    Args:
        source: As in [`load_questions`].
        part: One of the source's splits; None: all of them together.
        skip_bad: Leave out rows with something wrong; a warning counts them.
        **options: The columns and further options of [`load_questions`].

    Raises:
        ValueError: As [`load_questions`] does, but for missing answers; if the source has no such part.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 8)).save(folder / "1.png")
        >>> _ = (folder / "ask.csv").write_text("image,question\n1.png,what is it?")
        >>> print(load_rows(folder / "ask.csv"))
        1 row, 1 image, 1 distinct text, from ask.csv
    """
    read = read_questions(source, answered=False, **options)
    if read.bad and not skip_bad:
        raise BadRowsError(read.bad)
    if read.bad:
        logger.warning("left out %d bad rows", len(read.bad))
    found = {role: rows for role, rows in read.rows.items() if rows is not None and part in (None, role)}
    if not found:
        there = ", ".join(role for role, rows in read.rows.items() if rows is not None)
        raise ValueError(f"part: there is no {part!r}; there is {there}")
    rows = [row for one in found.values() for row in one]
    if not rows:
        raise ValueError("there is no row left to use")
    kinds = next(read.columns[role].kinds for role in found)
    return as_questions(rows, kinds, " and ".join(read.origins[role] for role in found))
