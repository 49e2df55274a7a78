"""Logistic regression on parts of very different width, each with a ridge strength of its own."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


logger = logging.getLogger(__name__)
STRENGTHS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0)
_NARROW = 8  # a few numbers do not overfit: parts up to this width are hardly penalised
_SHARED = "answers"  # the part with one number an answer, and one weight for all of them


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


def answer_losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Loss in nats of each row not labelled -100: cross-entropy of labels (N,); summed binary one of soft (N, L).

    Cross-entropy counts by `class_weights` (L,), where there are some.
    """
    if labels.dim() == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=-1)
    known = labels != -100
    return nn.functional.cross_entropy(logits[known], labels[known], weight=class_weights, reduction="none")


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

    $$ \min_{W, b} \sum_i \ell\Big(y_i, b + \sum_p W_p \tilde x_{ip}\Big) + \frac12 \sum_p \lambda_p \|W_p\|^2,
       \quad \tilde x \text{ standardised} $$

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
        >>> x = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]] * 9)
        >>> y = torch.tensor([0, 0, 1, 1] * 9)
        >>> fit = fit_linear_path({"cosine": x}, y, {"cosine": x}, y, 2)
        >>> (x @ fit.weights["cosine"].T + fit.bias).argmax(1).equal(y)
        True
    """
    for name, part in (*parts.items(), *eval_parts.items()):
        if not part.isfinite().all():
            raise ValueError(f"The part `{name}` of the linear path holds NaN or infinite values.")
    problem = _Problem(parts, labels, num_labels, max_iterations, class_weights)
    if again is not None:
        return problem.result(problem.solve(again.strengths, problem.standardized(again)), again.strengths, {})
    if eval_labels.dim() == 1 and bool((eval_labels == -100).all()):
        raise ValueError("`eval_labels` holds no label but -100.")
    chosen: dict[str, float] = {}
    weights = problem.solve(chosen, {})
    before = problem.losses(weights, eval_parts, eval_labels)
    losses = {"bias": float(before.mean())}
    for name, part in parts.items():
        best: tuple[Tensor, float, dict[str, Tensor]] | None = None
        tried = weights
        for strength in (1.0,) if name == _SHARED or part.shape[1] <= _NARROW else strengths:
            tried = problem.solve(chosen | {name: strength}, tried)
            after = problem.losses(tried, eval_parts, eval_labels)
            logger.debug("linear path: %s at %g, validation loss %.4f", name, strength, after.mean())
            if best is not None and after.mean() >= best[0].mean():
                break  # the loss falls and then rises as the penalty loosens
            best = after, strength, tried
        assert best is not None
        losses[name] = float(best[0].mean())
        if is_gain(before, best[0]):
            before, chosen[name], weights = best
    return problem.result(weights, chosen, losses)


class _Problem:
    """The training rows, standardised: solves for chosen strengths, measures on other rows."""

    def __init__(
        self,
        parts: Mapping[str, Tensor],
        labels: Tensor,
        num_labels: int,
        max_iterations: int,
        class_weights: Tensor | None,
    ) -> None:
        rows = torch.arange(len(labels)) if labels.dim() == 2 else (labels != -100).nonzero()[:, 0]
        if len(rows) == 0:
            raise ValueError("`labels` holds no label but -100.")
        self.labels, self.num_labels, self.max_iterations = labels[rows], num_labels, max_iterations
        self.class_weights = class_weights
        kept = {name: part[rows].float() for name, part in parts.items()}
        self.mean = {name: part.mean(dim=0) for name, part in kept.items()}
        self.std = {name: _spread(part, name) for name, part in kept.items()}
        self.rows = {name: self.standardize(name, part) for name, part in kept.items()}

    def standardize(self, name: str, part: Tensor) -> Tensor:
        return (part.float() - self.mean[name]) / self.std[name]

    @torch.no_grad()
    def losses(self, weights: Mapping[str, Tensor], parts: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        standardized = {name: self.standardize(name, parts[name]) for name in weights if name != "bias"}
        return answer_losses(_logits(weights, standardized, len(labels)), labels, self.class_weights)

    def solve(self, strengths: Mapping[str, float], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = {"bias": torch.zeros(self.num_labels)}
        for name in strengths:
            width = (1,) if name == _SHARED else (self.num_labels, self.rows[name].shape[1])
            weights[name] = torch.zeros(width)
        for name, weight in weights.items():
            weight.copy_(start.get(name, weight)).requires_grad_(True)
        rows = {name: self.rows[name] for name in strengths}
        optimizer = torch.optim.LBFGS(
            list(weights.values()),
            max_iter=self.max_iterations,
            tolerance_grad=1e-5,
            tolerance_change=1e-6,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            optimizer.zero_grad()
            penalty = sum(strength * weights[name].square().sum() for name, strength in strengths.items()) / 2
            losses = answer_losses(_logits(weights, rows, len(self.labels)), self.labels, self.class_weights)
            value: Tensor = losses.mean() + penalty / len(losses)
            value.backward()
            return value

        optimizer.step(objective)
        return {name: weight.detach() for name, weight in weights.items()}

    def standardized(self, fit: LinearFit) -> dict[str, Tensor]:
        """The weights of a fit, as they are for parts that these rows standardise."""
        weights = {
            name: weight * (self.std[name][:1] if name == _SHARED else self.std[name])
            for name, weight in fit.weights.items()
        }
        return weights | {
            "bias": fit.bias + sum(_shift(weight, self.mean[name], name) for name, weight in fit.weights.items())
        }

    def result(self, weights: dict[str, Tensor], strengths: dict[str, float], losses: dict[str, float]) -> LinearFit:
        """Weights and bias for parts that are not standardised."""
        raw, bias = {}, weights["bias"].clone()
        for name in strengths:
            raw[name] = weights[name] / (self.std[name][:1] if name == _SHARED else self.std[name])
            bias -= _shift(raw[name], self.mean[name], name)
        return LinearFit(raw, bias, strengths, losses)


def _spread(part: Tensor, name: str) -> Tensor:
    """Deviation of each dimension; of one with (nearly) none, 1. The answers' cosines share one."""
    if name == _SHARED:
        return (part - part.mean(dim=0)).std().clamp(min=1e-8).expand(part.shape[1])
    std = part.std(dim=0)
    return torch.where(std > 1e-3 * std.median(), std, 1.0).clamp(min=1e-8)


def _shift(weight: Tensor, mean: Tensor, name: str) -> Tensor:
    """What a part's mean adds to the logits, (L,)."""
    return weight * mean if name == _SHARED else weight @ mean


def _logits(weights: Mapping[str, Tensor], rows: Mapping[str, Tensor], count: int) -> Tensor:
    logits = weights["bias"].expand(count, -1)
    for name, part in rows.items():
        logits = logits + (weights[name] * part if name == _SHARED else part @ weights[name].T)
    return logits
