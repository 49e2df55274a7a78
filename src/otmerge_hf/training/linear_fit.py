"""Logistic regression on parts of very different width, each with a ridge strength of its own."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from .logistic import NARROW, SHARED, Logistic


logger = logging.getLogger(__name__)
_TO_COMPARE = 1e-5  # nats: a part's gain is about a hundredth; the choice is then solved to the end
STRENGTHS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0)


@dataclass(frozen=True)
class LinearFit:
    """What [`fit_linear_path`] found. Shapes: L answers, W width of a part.

    Attributes:
        weights: Per part that was kept, (L, W); of `answers`, (1,).
        bias: (L,).
        strengths: Per part that was kept, its ridge strength.
        losses: Validation loss in nats, by the part that was tried last: `bias` alone, then each part in its turn.
    """

    weights: dict[str, Tensor]
    bias: Tensor
    strengths: dict[str, float]
    losses: dict[str, float]


def is_gain(before: Tensor, after: Tensor) -> bool:
    """Whether losses (N,) fell by more than the standard error of their mean difference.

    Source: the one-standard-error rule of Breiman, Friedman, Olshen and Stone 1984, section 3.4.3.
    """
    fall = before - after
    return bool(fall.mean() > fall.std() / len(fall) ** 0.5)


def fit_linear_path(
    parts: Mapping[str, Tensor],
    labels: Tensor,
    eval_parts: Mapping[str, Tensor],
    eval_labels: Tensor,
    num_labels: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    again: LinearFit | None = None,
    class_weights: Tensor | None = None,
    max_iterations: int = 50,
) -> LinearFit:
    r"""Fit the logits to labels, letting one part in after the other, where validation gains by it.

    $$ \min_{W, b} \sum_i \ell\Big(y_i, b + \sum_p W_p \tilde x_{ip}\Big) + \frac12 \sum_p \lambda_p \|W_p\|^2
       + \frac12 \|b - b_0\|^2, \quad \tilde x \text{ standardised} $$

    $b_0$ is what the answers' frequencies give if each is counted once more (of soft targets half a time, among one
    more row); with class weights, frequencies and losses alike are weighted. It holds the bias of an answer that few
    or no training rows have, which would otherwise fall for as long as the fit runs.

    A part's strength is the best on validation while those before it are held; a part that does not lower the loss
    there by more than a standard error ([`is_gain`]) is left out. Rows labelled -100 do not count.

    Shapes: N rows, M rows of validation, L answers, W width of a part.

    Args:
        parts: Per name (N, W), in the order of entering; `answers` is (N, L), and has one weight for all answers.
        labels: (N,) answers, or (N, L) soft targets.
        eval_parts, eval_labels: The same of validation: (M, W) and (M,) or (M, L).
        num_labels: L.
        strengths: Ridge strengths to try, the strongest first.
        again: An earlier fit: its parts and strengths are kept, nothing is tried, and its weights are the start.
        class_weights: (L,), by which rows of one answer each count, of validation too; see [`balanced_weights`].
        max_iterations: Of L-BFGS, a fit.

    Raises:
        ValueError: If a part is not finite, or there is no labelled row, of validation too.

    Example:
        >>> import torch
        >>> x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]] * 9)
        >>> y = torch.tensor([0, 0, 1, 1] * 9)
        >>> fit = fit_linear_path({"cosine": x}, y, {"cosine": x}, y, 2)
        >>> (x @ fit.weights["cosine"].T + fit.bias).argmax(1).equal(y)
        True
    """
    for name, part in (*parts.items(), *eval_parts.items()):
        if not part.isfinite().all():
            raise ValueError(f"The part `{name}` of the linear path holds NaN or infinite values.")
    wanted = parts if again is None else {name: parts[name] for name in again.strengths}
    problem = Logistic(wanted, labels, num_labels, max_iterations, class_weights)
    if again is not None:
        start = problem.standardized(again.weights, again.bias)
        return LinearFit(*problem.raw(problem.solve(again.strengths, start)), again.strengths, {})
    if eval_labels.dim() == 1 and bool((eval_labels == -100).all()):
        raise ValueError("`eval_labels` holds no label but -100.")
    chosen: dict[str, float] = {}
    weights = problem.solve(chosen, {})
    before = problem.losses(weights, eval_parts, eval_labels)
    losses = {"bias": float(before.mean())}
    for name, part in parts.items():
        best: tuple[Tensor, float, dict[str, Tensor]] | None = None
        tried = weights
        for strength in (1.0,) if name == SHARED or part.shape[1] <= NARROW else strengths:
            tried = problem.solve(chosen | {name: strength}, tried, _TO_COMPARE)
            after = problem.losses(tried, eval_parts, eval_labels)
            logger.debug("linear path: %s at %g, validation loss %.4f", name, strength, after.mean())
            if best is not None and after.mean() >= best[0].mean():
                break  # the loss falls and then rises as the penalty loosens
            best = after, strength, tried
        assert best is not None
        losses[name] = float(best[0].mean())
        if is_gain(before, best[0]):
            before, chosen[name], weights = best
    return LinearFit(*problem.raw(problem.solve(chosen, weights)), chosen, losses)
