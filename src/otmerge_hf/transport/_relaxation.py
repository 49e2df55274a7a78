r"""What comes in: the errors of a solve, as they are met. What goes out: how far the next step should go.

Near the solution plain steps shrink the error by a factor that tends to $\lambda$, the squared second singular value
of the scaled plan. After two plain steps one step goes $\omega = 1/(1 - \lambda)$ times as far, with the rate just
met for $\lambda$ (Aitken's extrapolation). A step that made the error grow halves the largest omega allowed.
"""

import math

import torch
from torch import Tensor


# A number of one problem on the CPU; a tensor (...) elsewhere, so that a GPU is never waited for.
Number = float | Tensor

_PLAIN_STEPS = 2
_FIRST_LIMIT, _LAST_LIMIT = 5.0, 50.0


class Relaxation:
    """Two plain steps, one long one, and so on. Errors and omegas are floats, or tensors (...) of one per problem."""

    def __init__(self) -> None:
        self.limit: Number = _FIRST_LIMIT
        self.before: Number | None = None
        self.restart()

    def restart(self) -> None:
        """Begin anew with plain steps, as after K was built around other potentials."""
        self.plain = 0
        self.previous: Number = math.inf

    def next(self, error: Number) -> Number | None:
        """Take in the error met now; return omega for the step to come, None for a plain one."""
        if self.plain < _PLAIN_STEPS:
            self.plain, self.previous = self.plain + 1, error
            return None
        rate = error / self.previous
        if self.before is not None:
            self.limit = _choose(error < self.before, _clip(2.0 * self.limit, _LAST_LIMIT), 0.5 * self.limit)
        self.before = error
        self.restart()
        omega = _clip(1.0 / _choose(rate < 1.0, 1.0 - rate, 1.0), self.limit)
        return _choose(omega > 1.0, omega, 1.0)


def _choose(condition: bool | Tensor, yes: Number, no: Number) -> Number:
    if isinstance(condition, Tensor):
        return torch.where(condition, yes, no)
    return yes if condition else no


def _clip(value: Number, limit: Number) -> Number:
    return value.clamp_max(limit) if isinstance(value, Tensor) else min(value, limit)
