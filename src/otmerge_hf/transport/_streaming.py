r"""What comes in: a geometry too large to hold. What goes out: the same solution, a block of rows at a time.

One pass over the rows is one iteration: a block of logits is made, its rows are fitted by a log-sum-exp, and the
fitted block is at once summed into the columns. After the rows are fitted every entry of the plan is at most its
row's weight, so the column sums cannot overflow and the pass needs no second look at the block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._checks import Marginal
from ._relaxation import Relaxation
from ._scaling import EXPONENT_FLOOR, Solution, miss
from .geometry import Geometry


# Largest step in psi per iteration, in units of epsilon: a column that receives nothing must not jump to infinity.
_LARGEST_STEP = 60.0


class _Stream:
    """Passes over the row blocks of a geometry. Shapes: log_b, psi (..., M), phi (..., N)."""

    def __init__(self, geometry: Geometry, block: int) -> None:
        self.geometry = geometry
        total = geometry.a.weights.shape[-1]
        self.blocks = [slice(start, min(start + block, total)) for start in range(0, total, block)]
        self.log_b = geometry.b.weights.log()  # -inf on padding: such a column receives and gives nothing

    def fit_rows(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        """Return the phi that fits every row to `a`, and the column marginal of the plan that results."""
        phi, columns = torch.empty_like(self.geometry.a.weights), torch.zeros_like(psi)
        for rows in self.blocks:
            plan, phi[..., rows] = self.fitted(psi, rows)
            columns += (self.geometry.a.weights[..., rows].unsqueeze(-2) @ plan).squeeze(-2)
        return phi, columns

    def fitted(self, psi: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Return rows of the plan scaled to sum 1, (..., n, M), and their phi, (..., n)."""
        kernel = self.geometry.logits(psi + self.log_b, rows)
        shift = kernel.amax(dim=-1, keepdim=True)
        kernel.sub_(shift).clamp_(min=EXPONENT_FLOOR).exp_()
        totals = kernel.sum(dim=-1, keepdim=True)
        return kernel.div_(totals), (shift + totals.log()).squeeze(-1).neg_()


class _StreamProducts:
    """Products with the plan that `psi` gives, a block of rows at a time."""

    def __init__(self, stream: _Stream, psi: Tensor, columns: Tensor) -> None:
        self.stream, self.psi, self.columns = stream, psi, columns

    def pull(self, out: Tensor, features: Tensor) -> None:
        weights = self.stream.geometry.a.weights.unsqueeze(-1)
        for rows in self.stream.blocks:
            plan, _ = self.stream.fitted(self.psi, rows)
            out[..., rows, :].addcmul_(plan @ features, weights[..., rows, :], value=-1.0)

    def push(self, out: Tensor, features: Tensor) -> None:
        geometry = self.stream.geometry
        features = features * geometry.a.weights.unsqueeze(-1)
        received = torch.zeros_like(out)
        for rows in self.stream.blocks:
            plan, _ = self.stream.fitted(self.psi, rows)
            received += plan.mT @ features[..., rows, :]
        fit = _without_padding(geometry.b.weights / self.columns, geometry.b)
        out.addcmul_(received, fit.unsqueeze(-1), value=-1.0)


def solve_in_blocks(geometry: Geometry, psi: Tensor | None, tol: float, max_iterations: int, block: int) -> Solution:
    """Fit rows and columns in turn, `block` rows at a time, until the column error is below `tol`."""
    stream, b = _Stream(geometry, block), geometry.b
    psi = torch.zeros_like(b.weights) if psi is None else psi
    done, relaxation = 0, Relaxation()
    while True:
        phi, columns = stream.fit_rows(psi)
        error = miss(columns, b)
        worst = error.max().item()
        if worst <= tol or done >= max_iterations or math.isnan(worst):
            break
        omega = relaxation.next(error)
        step = (b.weights / columns).log_()
        if isinstance(omega, Tensor):
            step.mul_(omega.unsqueeze(-1))
        psi = psi + _without_padding(step.clamp_(-_LARGEST_STEP, _LARGEST_STEP), b)
        done += 1
    return Solution(
        phi=_without_padding(phi, geometry.a),
        psi=_without_padding(psi, b),
        marginal_error=error,
        iterations=done,
        converged=worst <= tol,
        products=_StreamProducts(stream, psi, columns),
    )


def _without_padding(values: Tensor, marginal: Marginal) -> Tensor:
    """Return `values` with zeros on padding."""
    return values if marginal.padding is None else values.masked_fill(marginal.padding, 0.0)
