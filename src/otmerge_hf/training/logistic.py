"""Logistic regression on parts of very different width, solved where the loss bends alike in all directions."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


NARROW = 8  # a few numbers need no axes of their own, and do not overfit
SHARED = "answers"  # the part with one number an answer, and one weight for all of them
_LEAST_SPREAD = 1e-12  # of the largest: an axis below it is rounding
_LEAST_WEIGHT = 1e-4  # of the largest class weight: an answer that counts nothing keeps a finite bias
_CHUNK = 4096  # rows raised to float64 at a time


def answer_losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Loss in nats of each row not labelled -100: cross-entropy of labels (N,); summed binary one of soft (N, L).

    Cross-entropy counts by `class_weights` (L,), where there are some.
    """
    if labels.dim() == 2:
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(dim=-1)
    known = labels != -100
    return nn.functional.cross_entropy(logits[known], labels[known], weight=class_weights, reduction="none")


class _Part(NamedTuple):
    """A part of N training rows, standardised. Shapes: U distinct rows, W width, A axes.

    Attributes:
        mean, std: (W,), before.
        values: (U, A), the distinct rows along the axes.
        rows: (N,), which of them each row is; None: they are all of them, in order.
        axes: (W, A), orthonormal; None: those of the numbers themselves.
        spread: (A,), sum of squares over the rows.
    """

    mean: Tensor
    std: Tensor
    values: Tensor
    rows: Tensor | None
    axes: Tensor | None
    spread: Tensor


class Logistic:
    """The training rows: solves for chosen strengths, and measures on other rows.

    Weights are those of standardised parts: (L, W) each, (1,) of `answers`, and `bias` (L,).

    Source: preconditioning by the curvature that the answers' frequencies give, as of the bound by Boehning 1992.

    Raises:
        ValueError: If no row is labelled.
    """

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
        self.bias, self.curvature = self._by_frequency()
        self.parts = {name: _part(name, part[rows].float()) for name, part in parts.items()}

    def _by_frequency(self) -> tuple[Tensor, Tensor]:
        """Bias (L,) of how often each answer is right, smoothed, and how the loss bends in its logit there."""
        if self.labels.dim() == 2:
            share = (self.labels.sum(dim=0) + 0.5) / (len(self.labels) + 1)
            return share.logit(), share * (1 - share)
        seen = torch.bincount(self.labels, minlength=self.num_labels) + 1.0
        if self.class_weights is not None:
            seen = seen * self.class_weights.clamp(min=_LEAST_WEIGHT * float(self.class_weights.max()))
        share = seen / seen.sum()
        return share.log(), share * (1 - share)

    def standardize(self, name: str, part: Tensor) -> Tensor:
        """Part (M, W) of other rows, by the training rows' mean and spread."""
        return (part.float() - self.parts[name].mean) / self.parts[name].std

    @torch.no_grad()
    def losses(self, weights: Mapping[str, Tensor], parts: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Loss (M,) of other rows."""
        logits = weights["bias"].expand(len(labels), -1)
        for name in weights:
            if name != "bias":
                logits = logits + _product(name, weights[name], self.standardize(name, parts[name]))
        return answer_losses(logits, labels, self.class_weights)

    def solve(
        self, strengths: Mapping[str, float], start: Mapping[str, Tensor], tolerance: float = 1e-8
    ) -> dict[str, Tensor]:
        """Weights of the least loss for each part's ridge strength; the bias alone, where there is no part.

        It ends where a step changes the loss by less than `tolerance`, in nats.
        """
        count = len(self.labels)
        scale = {"bias": (self.curvature + 1 / count).rsqrt()}
        inner = {"bias": start.get("bias", self.bias) - self.bias}
        for name, strength in strengths.items():
            part = self.parts[name]
            if name == SHARED:
                bent = (self.curvature.sum() * part.spread.mean()).reshape(1)
            else:
                bent = self.curvature[:, None] * part.spread
            scale[name] = ((bent + strength) / count).rsqrt()
            given = start.get(name, torch.zeros(self.num_labels, len(part.mean)) if name != SHARED else torch.zeros(1))
            inner[name] = given if part.axes is None else given @ part.axes
        inner = {name: (value / scale[name]).requires_grad_(True) for name, value in inner.items()}
        optimizer = torch.optim.LBFGS(
            list(inner.values()),
            max_iter=self.max_iterations,
            history_size=10,
            tolerance_grad=1e-5,
            tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            optimizer.zero_grad()
            weights = {name: value * scale[name] for name, value in inner.items()}
            penalty = weights["bias"].square().sum() / 2
            logits = (weights["bias"] + self.bias).expand(count, -1)
            for name, strength in strengths.items():
                penalty = penalty + strength * weights[name].square().sum() / 2
                own = _product(name, weights[name], self.parts[name].values)
                rows = self.parts[name].rows
                logits = logits + (own if rows is None else own[rows])
            value = answer_losses(logits, self.labels, self.class_weights).mean() + penalty / count
            value.backward()
            return value

        optimizer.step(objective)
        solved = {name: (value * scale[name]).detach() for name, value in inner.items()}
        solved["bias"] += self.bias
        for name in strengths:
            axes = self.parts[name].axes
            solved[name] = solved[name] if axes is None else solved[name] @ axes.T
        return solved

    def standardized(self, weights: Mapping[str, Tensor], bias: Tensor) -> dict[str, Tensor]:
        """Weights and bias of raw parts, as they are for parts that these rows standardise."""
        found = {"bias": bias.clone()}
        for name, weight in weights.items():
            part = self.parts[name]
            found[name] = weight * (part.std[:1] if name == SHARED else part.std)
            found["bias"] += _shift(name, weight, part.mean)
        return found

    def raw(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Weights and bias for parts that are not standardised."""
        found, bias = {}, weights["bias"].clone()
        for name in weights:
            if name != "bias":
                part = self.parts[name]
                found[name] = weights[name] / (part.std[:1] if name == SHARED else part.std)
                bias -= _shift(name, found[name], part.mean)
        return found, bias


def _part(name: str, part: Tensor) -> _Part:
    mean, std = part.mean(dim=0), _deviation(name, part)
    values, rows, axes = (part - mean) / std, None, None
    spread = values.square().sum(dim=0)
    if name != SHARED and part.shape[1] > NARROW:
        # questions that share a context, or a text: one product for all of them
        distinct, places, counts = values.unique(dim=0, return_inverse=True, return_counts=True)
        if len(distinct) < len(values):
            values, rows = distinct, places
        else:
            counts = torch.ones_like(counts)
        moment = torch.zeros(part.shape[1], part.shape[1], dtype=torch.float64)
        for some, count in zip(values.split(_CHUNK), counts.split(_CHUNK), strict=True):
            moment.addmm_(some.double().T, some.double() * count[:, None])
        spread, axes = torch.linalg.eigh(moment)
        kept = spread > _LEAST_SPREAD * spread[-1]
        spread, axes = spread[kept].float(), axes[:, kept].float()
        values = values @ axes
    return _Part(mean, std, values, rows, axes, spread)


def _deviation(name: str, part: Tensor) -> Tensor:
    """Deviation of each dimension; of one with (nearly) none, 1. The answers' cosines share one."""
    if name == SHARED:
        return (part - part.mean(dim=0)).std().clamp(min=1e-8).expand(part.shape[1])
    std = part.std(dim=0)
    return torch.where(std > 1e-3 * std.median(), std, 1.0).clamp(min=1e-8)


def _product(name: str, weight: Tensor, rows: Tensor) -> Tensor:
    """What a part adds to the logits, (N, L)."""
    return weight * rows if name == SHARED else rows @ weight.T


def _shift(name: str, weight: Tensor, mean: Tensor) -> Tensor:
    """What a part's mean adds to the logits, (L,)."""
    return weight * mean if name == SHARED else weight @ mean
