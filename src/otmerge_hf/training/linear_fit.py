"""Multinomial logistic regression on a few parts of very different width, each with a strength of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


Parts = Mapping[str, Tensor]
STRENGTHS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0)  # of wide parts; tried from strong to weak
_NARROW = 8  # parts up to this width are hardly penalised: a few numbers do not overfit


@dataclass
class LinearFit:
    """What [`fit_linear_path`] found. Shapes: L answers, W width of a part.

    Attributes:
        weights: Per part that is kept, (L, W); of `answers`, (1,).
        bias: (L,).
        strengths: Per part that is kept, its ridge strength.
        losses: Loss on validation, in nats, after each part that was tried, by name; `bias` comes first.
    """

    weights: dict[str, Tensor]
    bias: Tensor
    strengths: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)


def fit_linear_path(
    parts: Parts,
    labels: Tensor,
    eval_parts: Parts,
    eval_labels: Tensor,
    num_labels: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
    iterations: int = 60,
    report: Callable[[str], None] = lambda line: None,
) -> LinearFit:
    r"""Fit `sum_p W_p x_p + b` to the labels; parts enter one after the other, where validation gains by them.

    $$ \min \sum_i \ell(y_i, \sum_p W_p x_{ip} + b) + \frac12 \sum_p \lambda_p \|W_p\|^2 $$

    on standardised parts. Each strength \(\lambda_p\) is the best on validation, the strengths before it held; a part
    that does not lower the loss there is left out.

    Shapes: N rows, L answers, W width of a part.
    """
    fit = _Problem(parts, labels, num_labels)
    test = _Problem(parts, labels, num_labels, eval_parts, eval_labels)
    chosen: dict[str, float] = {}
    state = fit.solve(chosen, None, iterations)
    losses = {"bias": test.loss(state, chosen)}
    for name in parts:
        tried = (1.0,) if name == "answers" or parts[name].shape[1] <= _NARROW else strengths
        found = None
        start = state
        for strength in tried:
            start = fit.solve(chosen | {name: strength}, start, iterations)
            loss = test.loss(start, chosen | {name: strength})
            report(f"{name} {strength:g}: {loss:.4f}")
            if found is None or loss < found[0]:
                found = loss, strength, start
            else:
                break
        losses[name] = found[0]
        if found[0] < min(v for k, v in losses.items() if k != name and k in ("bias", *chosen)):
            chosen[name], state = found[1], found[2]
    return LinearFit(*fit.unstandardise(state, chosen), chosen, losses)


class _Problem:
    def __init__(self, parts, labels, num_labels, eval_parts=None, eval_labels=None):
        self.L = num_labels
        self.mean = {n: p.mean(0) for n, p in parts.items()}
        self.std = {n: p.std(0) for n, p in parts.items()}
        for n in parts:
            if n == "answers":  # one weight, one scale
                self.std[n] = parts[n].std().expand_as(self.mean[n])
            s = self.std[n]
            self.std[n] = torch.where(s > 1e-3 * s.median(), s, torch.ones_like(s)).clamp(min=1e-8)
        use, self.y = (parts, labels) if eval_parts is None else (eval_parts, eval_labels)
        self.x = {n: (p - self.mean[n]) / self.std[n] for n, p in use.items()}

    def logits(self, w, names):
        out = w["bias"]
        for n in names:
            out = out + (w[n] * self.x[n] if n == "answers" else self.x[n] @ w[n].T)
        return out

    def task_loss(self, logits):
        if self.y.dim() == 2:
            return nn.functional.binary_cross_entropy_with_logits(logits, self.y, reduction="none").sum(-1).mean()
        return nn.functional.cross_entropy(logits, self.y, ignore_index=-100)

    @torch.no_grad()
    def loss(self, w, names):
        return float(self.task_loss(self.logits(w, names).expand(len(self.y), -1)))

    def solve(self, strengths, start, iterations):
        w = {"bias": torch.zeros(self.L)}
        for n in strengths:
            w[n] = torch.zeros(1) if n == "answers" else torch.zeros(self.L, self.x[n].shape[1])
        if start:
            w.update({n: start[n].clone() for n in w if n in start})
        for v in w.values():
            v.requires_grad_(True)
        opt = torch.optim.LBFGS(
            list(w.values()), max_iter=iterations, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-5, tolerance_change=1e-7,
        )

        def closure():
            opt.zero_grad()
            loss = self.task_loss(self.logits(w, strengths).expand(len(self.y), -1))
            loss = loss + 0.5 / len(self.y) * sum(s * w[n].square().sum() for n, s in strengths.items())
            loss.backward()
            return loss

        opt.step(closure)
        return {n: v.detach() for n, v in w.items()}

    def unstandardise(self, w, names):
        weights, bias = {}, w["bias"].clone()
        for n in names:
            if n == "answers":
                weights[n] = w[n] / self.std[n][:1]
                bias -= weights[n] * self.mean[n]
            else:
                weights[n] = w[n] / self.std[n]
                bias -= weights[n] @ self.mean[n]
        return weights, bias
