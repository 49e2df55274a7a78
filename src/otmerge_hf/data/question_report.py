"""A source of questions -> everything that is worth knowing about it before any work, in words."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, DatasetDict

from .answers import Answers, Targets
from .load_questions import build_splits
from .questions import Questions, QuestionSplits
from .read_questions import read_questions
from .sources import Source


_SHOWN = 5


@dataclass(frozen=True)
class QuestionReport:
    """What [`check_questions`] found; `str()` of it is what `otmerge check` prints.

    Attributes:
        columns: Split -> its columns in words.
        splits: What would be learned from, without the bad rows; None if nothing could be.
        bad: Every bad row in one line, with where it was read.
        spellings: Answer -> the several ways in which it is written, the most frequent first.
        notes: What else is worth knowing, one line each.
        problem: Why nothing could be learned from what is left without the bad rows.
    """

    columns: Mapping[str, str]
    splits: QuestionSplits | None
    bad: Sequence[str]
    spellings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    problem: str = ""

    def __str__(self) -> str:
        lines = [f"Columns: {_one_or_each(self.columns)}"]
        if self.splits is not None:
            parts = {name: getattr(self.splits, name) for name in ("train", "validation", "test")}
            lines += [f"{name}: {part}" for name, part in parts.items()]
            lines += _answer_lines(self.splits.answers, parts)
        if self.spellings:
            shown = [f"{name!r} ({', '.join(map(repr, ways))})" for name, ways in self.spellings.items()]
            more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
            lines.append(f"Written in several ways, counted as one: {'; '.join(shown[:_SHOWN])}{more}")
        lines += [f"Note: {note}" for note in self.notes]
        if self.bad:
            lines.append("Training stops at bad rows, unless --skip-bad (`skip_bad`) leaves them out.")
        lines.append(f"Bad rows: {len(self.bad):,}" if self.bad else "No bad rows.")
        lines += [f"  {row}" for row in self.bad]
        return "\n".join(lines)


def check_questions(
    source: Source | Dataset | DatasetDict,
    *,
    targets: Targets | None = None,
    normalize: bool | None = None,
    top: int = 0,
    seed: int = 0,
    **options: Any,
) -> QuestionReport:
    """Read a source as [`load_questions`] does, and every image to its last pixel; list all that is wrong.

    Args:
        source: See [`load_questions`], as for all other arguments.

    Raises:
        ValueError: If the source cannot be read at all, a column is not found, or there is nothing to learn though
            no row is bad.

    Example:
        >>> from PIL import Image
        >>> rows = [{"image": Image.new("L", (4, 4), i), "label": "odd" if i % 2 else "even"} for i in range(20)]
        >>> report = check_questions(Dataset.from_list(rows))
        >>> print(str(report).splitlines()[0], len(report.bad))
        Columns: image 'image', no question, answer 'label' 0
    """
    read = read_questions(source, targets=targets, decode=True, **options)
    columns = {name: str(found) for name, found in read.columns.items()}
    try:
        splits = build_splits(read, normalize=normalize, top=top, seed=seed)
    except ValueError as error:
        if not read.bad:
            raise
        return QuestionReport(columns, None, read.bad, notes=read.notes, problem=str(error))
    return QuestionReport(columns, splits, read.bad, _spellings(splits), splits.notes)


def _spellings(splits: QuestionSplits) -> dict[str, list[str]]:
    ways: dict[str, Counter[str]] = defaultdict(Counter)
    for part in (splits.train, splits.validation, splits.test):
        for answer in (answer for row in part.answers for answer in row):
            ways[splits.answers.spell(answer)][answer] += 1
    several = {name: [way for way, _ in found.most_common()] for name, found in ways.items() if len(found) > 1}
    return dict(sorted(several.items(), key=lambda item: -ways[item[0]].total()))


def _answer_lines(answers: Answers, parts: Mapping[str, Questions]) -> list[str]:
    counts = Counter(answers.spell(answer) for row in parts["train"].answers for answer in row)
    total = counts.total()
    shown = ", ".join(f"{name!r} {counts[name] / total:.1%}" for name in answers.names[:_SHOWN])
    lines = [f"Answers: {len(answers.names):,} ({answers.targets}), most frequent {shown}"]
    best = [
        f"{name} {answers.ceiling(parts[name].answers):.3f}"
        for name in ("validation", "test")
        if any(parts[name].answers)
    ]
    return lines + ([f"Best accuracy that these answers allow: {', '.join(best)}"] if best else [])


def _one_or_each(columns: Mapping[str, str]) -> str:
    if len(set(columns.values())) == 1:
        return next(iter(columns.values()))
    return "; ".join(f"{name}: {found}" for name, found in columns.items())
