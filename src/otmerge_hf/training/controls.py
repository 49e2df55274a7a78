"""What can be answered without looking: the most frequent answer, and a linear model of the words alone."""

import torch
from torch import Tensor

from .linear_fit import LinearFit, fit_linear_path


_PART = "query"


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
