"""A trained merge and questions with known answers -> how good it is, at what, and where it errs."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from torch import Tensor

from ..data.answers import MEASURES, Answers, Targets
from ..data.questions import Questions
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .answering import question_logits


_SHOWN = 10


@dataclass(frozen=True)
class Evaluation:
    """How a merge answers N questions; `str()` of it is a page to read.

    Attributes:
        measure: What a score is: `accuracy`, `VQA accuracy` or `F1`.
        score: Mean over all rows, in [0, 1].
        scores: N scores.
        said: N tuples of the answers that the merge gives.
        confidence: N probabilities of the answer given (of labels: the mean over those given).
        by_kind: Column (`answer_type`, ...) -> its words -> mean score and number of rows.
        confusions: (true answer, given answer, rows), the most frequent first; none for labels.
        ceiling: Best mean score that the merge's answers allow.
        out_of_vocabulary: Rows none of whose answers the merge can give.
        rows: N places in the questions: those without an answer are not scored.
        worst: Answer -> mean score and number of rows, those first where the most is lost; none for labels.
    """

    measure: str
    score: float
    scores: list[float]
    said: list[tuple[str, ...]]
    confidence: list[float]
    by_kind: dict[str, dict[str, tuple[float, int]]]
    confusions: list[tuple[str, str, int]]
    ceiling: float
    out_of_vocabulary: int
    rows: list[int]
    worst: dict[str, tuple[float, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.measure} {self.score:.4f} on {len(self.scores):,} rows"]
        if self.out_of_vocabulary:
            unknown = f"the answers of {self.out_of_vocabulary:,} rows are unknown to the model"
            lines[0] += f"; {unknown}: at best {self.ceiling:.4f}"
        for column, found in (*self.by_kind.items(), ("answer", self.worst)):
            if found:
                shown = list(found.items())[:_SHOWN]
                title = f"the worst of the {len(found):,} answers" if column == "answer" else column.replace("_", " ")
                lines += ["", f"{title:32}{self.measure:>14}{'rows':>9}"]
                lines += [f"  {_short(name):30}{score:14.4f}{count:9,}" for name, (score, count) in shown]
        if self.confusions:
            lines += ["", f"{'true answer':32}{'given instead':32}{'rows':>9}"]
            lines += [f"  {_short(a):30}{_short(b):32}{count:9,}" for a, b, count in self.confusions[:_SHOWN]]
        return "\n".join(lines)

    def mistakes(self, count: int = 16) -> list[int]:
        """Places in `scores` with less than one half, the most confident first."""
        wrong = [row for row, score in enumerate(self.scores) if score < 0.5]
        return sorted(wrong, key=lambda row: -self.confidence[row])[:count]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single rows, as JSON values."""
        return {
            "measure": self.measure,
            "score": self.score,
            "rows": len(self.scores),
            "ceiling": self.ceiling,
            "out_of_vocabulary": self.out_of_vocabulary,
            "by_kind": self.by_kind,
            "by_answer": self.worst,
            "confusions": self.confusions[:100],
        }


def evaluate_merge(
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    questions: Questions,
    *,
    cache_dir: str | os.PathLike,
    targets: Targets | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Answer questions whose answers are known, and say how well.

    Args:
        model, processor: A trained merge.
        questions: One part of what [`load_questions`] returns.
        cache_dir: Folder where the encoders' features are kept.
        targets: What a row's answers are, as in [`Answers`]; what they were in training when None.
        batch_size: Inputs per forward; by default as many as are fast, see [`features.encode`].
        progress: Whether a bar is shown.

    Raises:
        ValueError: If no row has an answer, or none that the model knows.
    """
    answers = Answers.of_config(model.config)
    answers = replace(answers, targets=targets or answers.targets)
    labelled = answers.scored(questions.answers)
    if not labelled:
        raise ValueError(f"no row of {questions.origin} has an answer; there is nothing to compare with")
    options: dict[str, Any] = {"cache_dir": cache_dir, "batch_size": batch_size, "progress": progress}
    logits = question_logits(model, processor, questions, **options)[labelled]
    true = [questions.answers[row] for row in labelled]
    kinds = {name: [column[row] for row in labelled] for name, column in questions.kinds.items()}
    return evaluate_logits(logits, true, answers, kinds, labelled)


def evaluate_logits(
    logits: Tensor,
    true: Sequence[tuple[str, ...]],
    answers: Answers,
    kinds: dict[str, list[str]] | None = None,
    rows: Sequence[int] | None = None,
) -> Evaluation:
    """Compare logits (N, L) with N rows' true answers; `rows` are their places in a table (0 to N - 1 when None).

    Example:
        >>> import torch
        >>> answers, logits = Answers(["no", "yes"]), torch.tensor([[0.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
        >>> found = evaluate_logits(logits, [("yes",), ("no",), ("no",)], answers, {"answer_type": ["a", "b", "b"]})
        >>> found.by_kind, found.confusions, found.mistakes()
        ({'answer_type': {'b': (0.5, 2), 'a': (1.0, 1)}}, [('no', 'yes', 1)], [1])
    """
    scores, said = answers.scores(logits, true), answers.predictions(logits)
    place = {name: number for number, name in enumerate(answers.names)}
    main = [Counter(answers.spell(answer) for answer in row).most_common(1)[0][0] if row else "" for row in true]
    confused: Counter[tuple[str, str]] = Counter()
    if answers.targets != "labels":
        confused.update((a, b[0]) for a, b, score in zip(main, said, scores, strict=True) if score < 0.5)
    known = [any(answers.spell(answer) in place for answer in row) for row in true]
    return Evaluation(
        measure=MEASURES[answers.targets],
        score=fmean(scores),
        scores=scores,
        said=said,
        confidence=answers.confidence(logits, said),
        rows=list(range(len(true)) if rows is None else rows),
        by_kind={name: _means(column, scores) for name, column in (kinds or {}).items()},
        confusions=[(a, b, count) for (a, b), count in confused.most_common()],
        ceiling=answers.ceiling(true),
        out_of_vocabulary=known.count(False),
        worst=_means(main, scores) if answers.targets != "labels" else {},
    )


def _means(names: Sequence[str], scores: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Mean score and count by name; those first where the most is lost."""
    rows: dict[str, list[float]] = {}
    for name, score in zip(names, scores, strict=True):
        rows.setdefault(name, []).append(score)
    found = {name: (fmean(values), len(values)) for name, values in rows.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1][1] * (1 - item[1][0])))


def _short(text: str, width: int = 28) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
