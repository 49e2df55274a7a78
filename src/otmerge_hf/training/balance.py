"""Labels of which some answers are rare -> weights by which each answer counts the same in the loss."""

import torch
from torch import Tensor


def balanced_weights(labels: Tensor, num_labels: int) -> Tensor:
    r"""Weight of each answer, inverse to how often it is the label.

    $$ w_a = \frac{N}{L \, n_a}, \quad \text{so that } \frac1N \sum_i w_{y_i} = 1 $$

    As `model.class_weights` they weigh the rows of the answer loss, and of [`grow_answers`]' linear path. The loss
    stays a mean over rows, whatever the batch: accumulated gradients add up as without weights.

    Args:
        labels: N answers, in [0, num_labels), or -100 where there is none.
        num_labels: L; an answer that is no label has the weight 1.

    Raises:
        ValueError: If labels are soft, or there is none.

    Example:
        >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
        tensor([0.6667, 2.0000])

    Source: King and Zeng 2001; `class_weight="balanced"` of scikit-learn.
    """
    if labels.dim() != 1:
        raise ValueError(f"`labels` have shape {tuple(labels.shape)}; expected one answer a row: soft ones have none")
    counts = torch.bincount(labels[labels >= 0], minlength=num_labels)
    if not counts.any():
        raise ValueError("`labels` hold no label but -100.")
    weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
    return torch.where(counts > 0, weights, 1.0)
