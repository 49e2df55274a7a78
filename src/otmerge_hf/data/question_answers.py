"""The cell of an answer column -> the answers that it holds, in words; and what several of them are."""

import ast
import json
import re
from collections.abc import Sequence
from itertools import accumulate, repeat
from math import inf
from statistics import median_low
from typing import Any

from .answers import Targets
from .question_columns import CLASS_COLUMNS


_FEWEST_VOTES = 4
_DEEPEST = 20  # brackets within brackets; parsers give up on many, each in its own way
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_TOO_DEEP = "the answer is a list too deeply nested; expected text, a number, or a list of them"
_FIELDS = ("answer", "label", "text", "name")
_NUMPY = re.compile(r"""['"]\s+['"]""")  # ['a' 'b'], as an array is printed


def answers_of(value: Any, separator: str | None = None) -> tuple[str, ...]:
    """Every answer of one row, in words, without spaces around them; none where the cell is empty.

    Args:
        value: Text, a number, a list of them or of records `{"answer": ...}`; or text that is such a list.
        separator: What stands between several answers in one text.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> answers_of(3.0), answers_of('["red", "blue"]'), answers_of("cat|dog", "|")
        (('3',), ('red', 'blue'), ('cat', 'dog'))
    """
    try:
        return _answers_of(value, separator)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _answers_of(value: Any, separator: str | None = None) -> tuple[str, ...]:
    if value is None or value != value:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]") and (items := _list(text)) is not None:
            return _answers_of(items)
        parts = text.split(separator) if separator else [text]
        return tuple(part.strip() for part in parts if part.strip())
    if isinstance(value, bool):
        return (str(value).lower(),)
    if isinstance(value, int | float):
        if value in (inf, -inf):
            raise ValueError("the answer is an infinite number; expected text, a number, or a list of them")
        return (str(int(value)) if value == int(value) else str(value),)
    if isinstance(value, dict) and (field := next((name for name in _FIELDS if name in value), None)):
        return _answers_of(value[field])
    if isinstance(value, list | tuple):
        return tuple(answer for item in value for answer in _answers_of(item))
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
    if text.count("[") + text.count("{") > _DEEPEST and max(accumulate(map(_STEPS.get, text, repeat(0)))) > _DEEPEST:
        raise ValueError(_TOO_DEEP)
    for read in (json.loads, ast.literal_eval):
        try:
            items = read(text)
        except (ValueError, SyntaxError):
            continue
        return items if isinstance(items, list) else None
    return None
