r"""What comes in: the errors of a solve, as they are met. What goes out: how far to over-relax the next steps.

Alternating scaling is a block Gauss-Seidel iteration in the log domain, so the theory of successive over-relaxation
applies near the solution (Thibault et al. 2021; Lehmann et al. 2022): with :math:`\eta` the squared second singular
value of the scaled plan, plain steps shrink the error by :math:`\eta`, and
:math:`\omega^* = 2 / (1 + \sqrt{1 - \eta})` by :math:`\omega^* - 1`, the square-root kind of speed-up. Below
:math:`\omega^*` the rate :math:`\rho` that is met obeys :math:`(\rho + \omega - 1)^2 = \rho\,\omega^2 \eta`, which
gives :math:`\eta`, hence :math:`\omega^*`.
"""

from __future__ import annotations

import math


_START, _HIGHEST = 1.5, 1.95
# Iterations over which a rate is measured: over-relaxed errors oscillate, single ratios say little.
_WINDOW = 8
# Growth of the error over its best that counts as divergence, not as oscillation.
_GROWTH = 3.0


class Relaxation:
    """Chooses omega: 1 for the first step, then 1.5, raised when the rate met says so, 1 again on divergence."""

    def __init__(self) -> None:
        self.omega = 1.0
        self.later = _START
        self.restart()

    def restart(self) -> None:
        """Forget the errors, as after K was built anew: the next step is plain."""
        self.omega = 1.0
        self.best = self.reference = math.inf
        self.since = 0

    def update(self, error: float, steps: int) -> None:
        """Take in the error met after ``steps`` more iterations."""
        if error > _GROWTH * self.best:
            # Plain steps always converge: one window of them, then again with half the excess.
            self.later = 1.0 + 0.5 * (self.later - 1.0)
            self.restart()
            return
        self.best = min(self.best, error)
        if self.omega == 1.0:
            self.omega, self.reference, self.since = self.later, error, 0
            return
        self.since += steps
        if self.since >= _WINDOW:
            rate = (error / self.reference) ** (1.0 / self.since)
            self.reference, self.since = error, 0
            if rate < 1.0 and rate > self.omega - 1.0:
                eta = min((rate + self.omega - 1.0) ** 2 / (rate * self.omega**2), 1.0)
                best = 2.0 / (1.0 + math.sqrt(1.0 - eta))
                self.omega = self.later = max(self.omega, min(best, _HIGHEST))
