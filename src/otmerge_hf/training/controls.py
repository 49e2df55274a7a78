"""What can be answered without looking: the most frequent answer, and a linear model of the words alone."""

import torch
from datasets import Dataset
from torch import Tensor

from ..data.encoded import EncodedQuestions
from ..data.questions import QuestionSplits
from ..features import mean_features
from ..features.collator import dense_labels
from .linear_fit import LinearFit, fit_linear_path
from .measuring import drawn_rows


_PART = "query"


def test_scores(merged: torch.Tensor, rows: EncodedQuestions, questions: QuestionSplits) -> dict[str, float]:
    """Mean score on the test rows with an answer, of the two controls and of the merge's logits."""
    answers, means = questions.answers, mean_features(rows.query_store)

    def read(part: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        return means[part["query_features"][:]], dense_labels(part["labels"][:], len(answers.names))

    count = len(answers.names)
    fitted = [drawn_rows(part, count, name) for name, part in (("train", rows.train), ("validation", rows.validation))]
    learnt, validation = map(read, fitted)
    both, test = torch.cat([learnt[1], validation[1]]), means[rows.test["query_features"][:]]
    logits = {
        "most frequent answer": most_frequent(both, len(rows.test), count),
        "words only, linear": words_alone(learnt, validation, test, count),
        "merged": merged,
    }
    answered = answers.scored(questions.test.answers)
    true = [questions.test.answers[row] for row in answered]
    if not true:
        return {}
    return {name: sum(answers.scores(given[answered], true)) / len(true) for name, given in logits.items()}


def most_frequent(labels: Tensor, count: int, num_labels: int) -> Tensor:
    """Logits (count, L) of one answer for all: the most frequent of labels (N,), or the best of soft ones (N, L)."""
    if labels.dim() == 2:
        share = labels.mean(dim=0)
        return (share.clamp(1e-6, 1 - 1e-6).logit())[None].expand(count, -1)
    counts = torch.bincount(labels[labels >= 0], minlength=num_labels).float()
    return counts[None].expand(count, -1)


def words_alone(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], test: Tensor, num_labels: int
) -> Tensor:
    """Logits (M, L) of a logistic regression on the questions' mean features, its strength chosen on validation.

    Args:
        train: Features (N, D) and labels, (N,) or soft (N, L).
        validation: The same of other rows; the chosen strength is fitted again on both.
        test: Features (M, D).
        num_labels: L.
    """
    (features, labels), (others, other_labels) = train, validation
    fit = fit_linear_path({_PART: features}, labels, {_PART: others}, other_labels, num_labels)
    both = torch.cat([features, others]), torch.cat([labels, other_labels])
    fit = fit_linear_path({_PART: both[0]}, both[1], {}, labels[:0], num_labels, again=fit)
    return _logits(fit, test)


def _logits(fit: LinearFit, features: Tensor) -> Tensor:
    weight = fit.weights.get(_PART)
    return fit.bias + features @ weight.T if weight is not None else fit.bias.expand(len(features), -1)
