"""Answers in words -> classes: a vocabulary, hard labels, people's votes as soft ones, several labels a row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ..metrics.vqa_accuracy import normalize_answer, soft_scores


Targets = Literal["single", "votes", "labels"]
#: What a row's score is, by kind of target.
MEASURES = {"single": "accuracy", "votes": "VQA accuracy", "labels": "F1"}
IGNORED = -100


@dataclass(frozen=True)
class Answers:
    """The answers that a merge may give, and what of a row's answers becomes its label.

    Attributes:
        names: The L answers, the most frequent first, equals in alphabetical order.
        targets: `single` (one answer a row), `votes` (several people's answers to one question: soft scores
            min(votes / 3, 1), one person left out), or `labels` (any number of labels are true of a row).
        normalize: Whether spellings are made one by [`normalize_answer`] ("Yes " and "yes", "two" and "2").
    """

    names: list[str]
    targets: Targets = "single"
    normalize: bool = True

    @classmethod
    def of(
        cls, rows: Sequence[tuple[str, ...]], *, targets: Targets | None = None, normalize: bool = True, top: int = 0
    ) -> "Answers":
        """Count the answers of training rows, and keep the `top` most frequent (0: all).

        `targets` is found from the rows when None: `votes` where a row has four answers or more, else `single`.

        Raises:
            ValueError: If rows have other numbers of answers than `targets` allows, or there are fewer than two
                different answers.

        Example:
            >>> answers = Answers.of([("Yes",), ("yes ",), ("no",)])
            >>> answers.names, answers.labels([("no",), ("maybe",)])
            (['yes', 'no'], [1, -100])
        """
        if targets not in (None, *get_args(Targets)):
            raise ValueError(f"`targets` is {targets!r}; expected one of {', '.join(get_args(Targets))}")
        if top < 0:
            raise ValueError(f"`top` is {top}; expected the number of answers to keep, or 0 for all")
        counted = [len(row) for row in rows if row]
        if targets is None:
            targets = "votes" if counted and min(counted) >= 4 else "single"
        if targets == "single" and counted and max(counted) > 1:
            raise ValueError(f"a row has {max(counted)} answers; expected one each; pass `targets` votes or labels")
        spell = cls([], targets, normalize).spell
        counts = Counter(spell(answer) for row in rows for answer in row)
        names = sorted(counts, key=lambda name: (-counts[name], name))[: top or None]
        if len(names) < 2:
            raise ValueError(
                f"there is nothing to learn: the only answer is {names[0]!r}" if names else "no row has an answer"
            )
        return cls(names, targets, normalize)

    def __str__(self) -> str:
        spelling = ", one spelling each" if self.normalize else ""
        shown = [*self.names[:5], *(["..."] if len(self.names) > 5 else [])]
        return f"{len(self.names):,} answers ({MEASURES[self.targets]}{spelling}): {', '.join(shown)}"

    @property
    def id2label(self) -> dict[int, str]:
        """The configuration's `id2label`."""
        return dict(enumerate(self.names))

    def spell(self, answer: str) -> str:
        """One spelling of an answer; an answer that the rules leave nothing of stays as it is."""
        return (normalize_answer(answer) or answer.strip()) if self.normalize else answer

    def labels(self, rows: Sequence[tuple[str, ...]]) -> list[int] | list[dict[str, list]]:
        """Labels of rows: N classes, -100 where an answer is no class; or of votes and labels the scores above zero.

        The latter as `{"answers": [class, ...], "scores": [score, ...]}`, which [`features.FeatureCollator`] makes
        into one number an answer: lists of all answers for every row would not fit into memory.
        """
        place = {name: number for number, name in enumerate(self.names)}
        if self.targets == "single":
            return [place.get(self.spell(row[0]), IGNORED) if row else IGNORED for row in rows]
        found: list[dict[str, list]] = []
        for row in rows:
            known = {place[name]: score for name, score in self._scores_of(row).items() if name in place}
            found.append({"answers": list(known), "scores": list(known.values())})
        return found

    def _scores_of(self, row: tuple[str, ...]) -> dict[str, float]:
        """Score of each answer to a row of votes or labels; none for a row that nobody answered."""
        spelled = [self.spell(answer) for answer in row]
        if self.targets == "votes" and row:
            return soft_scores(spelled, normalize=False)
        return dict.fromkeys(spelled, 1.0)

    def scored(self, rows: Sequence[tuple[str, ...]]) -> list[int]:
        """Places of the rows whose answer is known; of labels all, if any row has one: the others are true of none."""
        if self.targets == "labels" and any(rows):
            return list(range(len(rows)))
        return [place for place, row in enumerate(rows) if row]

    def predictions(self, logits: Tensor) -> list[tuple[str, ...]]:
        """Answers that logits (N, L) give: the best one, or all labels more likely than not."""
        if self.targets != "labels":
            return [(self.names[best],) for best in logits.argmax(dim=-1).tolist()]
        return [tuple(self.names[place] for place in row.nonzero()[:, 0].tolist()) for row in logits > 0]

    def confidence(self, logits: Tensor, said: Sequence[tuple[str, ...]]) -> list[float]:
        """Probability of each row's answers, as [`predictions`] gave them; of several labels their mean."""
        chances = logits.softmax(dim=-1) if self.targets == "single" else logits.sigmoid()
        place = {name: number for number, name in enumerate(self.names)}
        return [
            sum(float(row[place[name]]) for name in given) / max(len(given), 1)
            for row, given in zip(chances, said, strict=True)
        ]

    def scores(self, logits: Tensor, rows: Sequence[tuple[str, ...]]) -> list[float]:
        """Score of each row in [0, 1]: whether the answer is right, official VQA accuracy of votes, F1 of labels.

        Example:
            >>> import torch
            >>> answers = Answers(["no", "yes"])
            >>> answers.scores(torch.tensor([[0.1, 0.9], [0.2, 0.8]]), [("Yes",), ("maybe",)])
            [1.0, 0.0]
        """
        said = self.predictions(logits)
        if self.targets == "votes":
            # spelled on both sides: the official rule, to leave unanimous answers as they are, is for lower-case ones
            return [self._scores_of(row).get(answer, 0.0) for (answer,), row in zip(said, rows, strict=True)]
        true = [{self.spell(answer) for answer in row} for row in rows]
        if self.targets == "single":
            return [float(answer in row) for (answer,), row in zip(said, true, strict=True)]
        pairs = zip(map(set, said), true, strict=True)
        return [2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in pairs]

    @property
    def config(self) -> dict[str, Any]:
        """Fields of the configuration: the answers' names, which loss they have, and how they are spelled."""
        kind = "single_label" if self.targets == "single" else "multi_label"
        return {
            "id2label": self.id2label,
            "label2id": {name: number for number, name in enumerate(self.names)},
            "problem_type": f"{kind}_classification",
            "answer_targets": self.targets,
            "normalize_answers": self.normalize,
        }

    @classmethod
    def of_config(cls, config: Any) -> "Answers":
        """The answers that a merge was taught, from its configuration; guessed where it does not say how they are.

        Configurations of merges that were not taught by these functions do not say: one answer a row, and spellings
        are made one if that leaves all names as they are.
        """
        names = [name for _, name in sorted((int(place), name) for place, name in (config.id2label or {}).items())]
        soft = config.problem_type == "multi_label_classification"
        targets: Targets = config.answer_targets or ("labels" if soft else "single")
        normalize = config.normalize_answers
        if normalize is None:
            normalize = all(cls(names).spell(name) == name for name in names)
        return cls(names, targets, normalize)

    def ceiling(self, rows: Sequence[tuple[str, ...]]) -> float:
        """Best mean score in [0, 1] that these answers allow on rows: what is not among them cannot be said."""
        rows = [rows[place] for place in self.scored(rows)]
        if not rows:
            return 1.0
        known = set(self.names)
        return sum(self._best(row, known) for row in rows) / len(rows)

    def _best(self, row: tuple[str, ...], known: set[str]) -> float:
        if self.targets == "votes":
            return max((score for name, score in self._scores_of(row).items() if name in known), default=0.0)
        true = {self.spell(answer) for answer in row}
        if self.targets == "single":
            return float(bool(true & known))
        return 2 * len(true & known) / (len(true & known) + len(true)) if true else 1.0
