r"""What comes in: a geometry too large to hold. What goes out: the same solution, a block of rows at a time.

One pass over the rows is one iteration: a block of logits is made, its rows are fitted by a log-sum-exp, and the
fitted block is at once summed into the columns. After the rows are fitted every entry of the plan is at most its
row's weight, so the column sums cannot overflow and the pass needs no second look at the block.
"""

import math

import torch
from torch import Tensor

from ._relaxation import Relaxation
from ._scaling import EXPONENT_FLOOR, Solution, total_size
from .geometry import Geometry


# Largest step in psi per iteration, in units of epsilon: a column that receives nothing must not jump to infinity.
_LARGEST_STEP = 60.0


def row_blocks(total: int, block: int) -> list[slice]:
    """Slices of at most `block` rows that make up `total`."""
    return [slice(start, min(start + block, total)) for start in range(0, total, block)]


class _Stream:
    """Passes over the row blocks of a geometry. Shapes: psi, columns (..., M), phi (..., N)."""

    def __init__(self, geometry: Geometry, psi: Tensor | None, block: int) -> None:
        self.geometry, self.a, self.b = geometry, geometry.a.weights, geometry.b.weights
        self.blocks = row_blocks(self.a.shape[-1], block)
        self.log_b = self.b.log()  # -inf on padding: such a column receives and gives nothing
        self.psi = torch.zeros_like(self.b) if psi is None else psi
        self.phi, self.columns = torch.empty_like(self.a), torch.empty_like(self.b)

    def fit_rows(self) -> Tensor:
        """Fit every row to `a` by its phi; return the L1 error of the columns that result, (...)."""
        self.columns.zero_()
        for rows in self.blocks:
            plan, self.phi[..., rows] = self._fitted(rows)
            self.columns += (self.a[..., rows].unsqueeze(-2) @ plan).squeeze(-2)
        return total_size(self.columns - self.b)

    def _fitted(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return rows of the plan scaled to sum 1, (..., n, M), and their phi, (..., n)."""
        kernel = self.geometry.logits(self.psi + self.log_b, rows)
        shift = kernel.amax(dim=-1, keepdim=True)
        kernel.sub_(shift).clamp_(min=EXPONENT_FLOOR).exp_()
        totals = kernel.sum(dim=-1, keepdim=True)
        return kernel.div_(totals), (shift + totals.log()).squeeze(-1).neg_()

    def pull(self, out: Tensor, features: Tensor) -> None:
        for rows in self.blocks:
            plan, _ = self._fitted(rows)
            out[..., rows, :].addcmul_(plan @ features, self.a[..., rows].unsqueeze(-1), value=-1.0)

    def push(self, out: Tensor, features: Tensor) -> None:
        features = features * self.a.unsqueeze(-1)
        received = torch.zeros_like(out)
        for rows in self.blocks:
            received += self._fitted(rows)[0].mT @ features[..., rows, :]
        fit = self.geometry.b.fill(self.b / self.columns)
        out.addcmul_(received, fit.unsqueeze(-1), value=-1.0)


def solve_in_blocks(geometry: Geometry, psi: Tensor | None, tol: float, max_iterations: int, block: int) -> Solution:
    """Fit rows and columns in turn, `block` rows at a time, until the column error is at most `tol`."""
    stream, relaxation, done = _Stream(geometry, psi, block), Relaxation(), 0
    while True:
        error = stream.fit_rows()
        worst = error.max().item()
        if worst <= tol or done >= max_iterations or math.isnan(worst):
            break
        omega = relaxation.next(error)
        step = (stream.b / stream.columns).log_()
        if isinstance(omega, Tensor):
            step.mul_(omega.unsqueeze(-1))
        stream.psi = stream.psi + geometry.b.fill(step.clamp_(-_LARGEST_STEP, _LARGEST_STEP))
        done += 1
    phi, psi = geometry.a.fill(stream.phi), geometry.b.fill(stream.psi)
    return Solution(phi, psi, error, done, worst <= tol, products=stream)
