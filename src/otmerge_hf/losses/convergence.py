"""Whether the transport solvers behind a loss converged, for whoever logs the loss; the losses return values alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from ..transport import DivergenceResult, TransportResult


Result = TypeVar("Result", TransportResult, DivergenceResult)
_watched: ContextVar[list[torch.Tensor] | None] = ContextVar("_watched", default=None)


def noted(result: Result) -> Result:
    """Return a solver's result, and tell the surrounding [`watch_convergence`] whether it converged."""
    flags = _watched.get()
    if flags is not None:
        flags.append(result.converged.all())
    return result


@contextmanager
def watch_convergence() -> Iterator[list[torch.Tensor]]:
    """Collect a flag for each transport problem that losses solve inside the `with` block.

    Yields:
        List of scalar boolean tensors, False where the marginal error stayed above the solver's tolerance. Empty after
        losses without transport, and after the geomloss backend, which does not measure it.

    Example:
        >>> from otmerge_hf.losses import sinkhorn_loss
        >>> with watch_convergence() as solves:
        ...     value = sinkhorn_loss(torch.eye(3), torch.eye(3).flip(1) + 1)
        >>> [bool(flag) for flag in solves]
        [True]
    """
    flags: list[torch.Tensor] = []
    token = _watched.set(flags)
    try:
        yield flags
    finally:
        _watched.reset(token)
