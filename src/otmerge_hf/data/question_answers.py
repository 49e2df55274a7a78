"""The cell of an answer column -> the answers that it holds, in words; and what several of them are."""

import ast
import json
import re
from collections.abc import Sequence
from statistics import median_low
from typing import Any

from .answers import Targets
from .question_columns import CLASS_COLUMNS


_FEWEST_VOTES = 4
_FIELDS = ("answer", "label", "text", "name")
_NUMPY = re.compile(r"""['"]\s+['"]""")  # ['a' 'b'], as an array is printed


def answers_of(value: Any, separator: str | None = None) -> tuple[str, ...]:
    """Every answer of one row, in words; none where the cell is empty.

    Args:
        value: Text, a number, a list of them or of records `{"answer": ...}`; or text that is such a list.
        separator: What stands between several answers in one text.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> answers_of(3.0), answers_of('["red", "blue"]'), answers_of("cat|dog", "|")
        (('3',), ('red', 'blue'), ('cat', 'dog'))
    """
    if value is None or value != value:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]") and (items := _list(text)) is not None:
            return answers_of(items)
        parts = value.split(separator) if separator else [value]
        return tuple(part.strip() if separator else part for part in parts if part.strip())
    if isinstance(value, bool):
        return (str(value).lower(),)
    if isinstance(value, int | float):
        return (str(int(value)) if value == int(value) else str(value),)
    if isinstance(value, dict) and (field := next((name for name in _FIELDS if name in value), None)):
        return answers_of(value[field])
    if isinstance(value, list | tuple):
        return tuple(answer for item in value for answer in answers_of(item))
    kind = f"a record of {', '.join(value)}" if isinstance(value, dict) else f"a {type(value).__name__}"
    raise ValueError(f"the answer is {kind}; expected text, a number, or a list of them")


def find_targets(counts: Sequence[int], column: str | None) -> Targets | None:
    """What a table's answers are, from the number that each row has: labels by the column's name, or else votes.

    Votes are four answers or more in most rows that have any; None: rows do not say.

    Example:
        >>> find_targets([10, 10, 3, 0], "answers"), find_targets([0, 1, 2], "labels"), find_targets([1, 1], "label")
        ('votes', 'labels', 'single')
    """
    given = [count for count in counts if count]
    if str(column).lower() in CLASS_COLUMNS and max(given, default=0) > 1:
        return "labels"
    if max(given, default=0) == 1:
        return "single"
    return "votes" if given and median_low(given) >= _FEWEST_VOTES else None


def _list(text: str) -> list[Any] | None:
    """The list that a text is, as JSON or as Python writes it."""
    if _NUMPY.search(text):
        raise ValueError(f"the answers {text[:40]!r} are no list; expected one as JSON writes it")
    for read in (json.loads, ast.literal_eval):
        try:
            items = read(text)
        except (ValueError, SyntaxError):
            continue
        return items if isinstance(items, list) else None
    return None
