r"""What comes in: a geometry too large to hold. What goes out: the same solution, a block of rows at a time.

One pass over the rows is one iteration: a block of logits is made, its rows are fitted by a log-sum-exp, and the
fitted block is at once summed into the columns. After the rows are fitted every entry of the plan is at most its
row's weight, so the column sums cannot overflow and the pass needs no second look at the block.
"""

import torch
from torch import Tensor

from ._checks import row_blocks
from ._relaxation import Number
from ._scaling import EXPONENT_FLOOR, Scaler, Solution, total_size
from .geometry import Geometry


# Largest step in psi per iteration, in units of epsilon: a column that receives nothing must not jump to infinity.
_LARGEST_STEP = 60.0


class Stream(Scaler):
    """A `Scaler` that makes K anew, a block of rows at a time, and keeps potentials instead of scalings."""

    def __init__(self, geometry: Geometry, psi: Tensor | None, block: int) -> None:
        self.geometry, self.a, self.b = geometry, geometry.a, geometry.b
        self.shift = None  # rows are shifted anew in every pass: nothing is ever absorbed
        self.blocks = row_blocks(self.a.weights.shape[-1], block)
        self.log_b = self.b.weights.log()  # -inf on padding: such a column receives and gives nothing
        self.potential = torch.zeros_like(self.log_b) if psi is None else psi
        self.u, self.columns = torch.empty_like(self.a.weights), torch.empty_like(self.log_b)  # u: phi

    def measure(self) -> Tensor:
        self.columns.zero_()
        for rows in self.blocks:
            plan, self.u[..., rows] = self._fitted(rows)
            self.columns += (self.a.weights[..., rows].unsqueeze(-2) @ plan).squeeze(-2)
        self.gap = self.columns - self.b.weights
        return total_size(self.gap)

    def step(self, omega: Number | None) -> None:
        step = self.fit().log_()
        if omega is not None:
            step.mul_(omega.unsqueeze(-1) if isinstance(omega, Tensor) else omega)
        self.potential = self.potential + self.b.fill(step.clamp_(-_LARGEST_STEP, _LARGEST_STEP))

    def fit(self) -> Tensor:
        return self.b.fill(self.b.weights / self.columns)

    def solution(self, iterations: int, converged: bool) -> Solution:
        phi, psi = self.a.fill(self.u), self.b.fill(self.potential)
        return Solution(phi, psi, total_size(self.gap), iterations, converged, products=self)

    def _fitted(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return rows of the plan scaled to sum 1, (..., n, M), and their phi, (..., n)."""
        kernel = self.geometry.logits(self.potential + self.log_b, rows)
        shift = kernel.amax(dim=-1, keepdim=True)
        kernel.sub_(shift).clamp_(min=EXPONENT_FLOOR).exp_()
        totals = kernel.sum(dim=-1, keepdim=True)
        return kernel.div_(totals), (shift + totals.log()).squeeze(-1).neg_()

    def pull(self, out: Tensor, features: Tensor) -> None:
        for rows in self.blocks:
            plan, _ = self._fitted(rows)
            out[..., rows, :].addcmul_(plan @ features, self.a.weights[..., rows].unsqueeze(-1), value=-1.0)

    def push(self, out: Tensor, features: Tensor) -> None:
        features, received = features * self.a.weights.unsqueeze(-1), torch.zeros_like(out)
        for rows in self.blocks:
            received += self._fitted(rows)[0].mT @ features[..., rows, :]
        out.addcmul_(received, self.fit().unsqueeze(-1), value=-1.0)
