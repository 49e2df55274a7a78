"""Several closed forms on the training pairs, the best by retrieval on validation pairs."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..metrics.retrieval import retrieval
from .base import AffineMap, check_fit
from .cca import CCA
from .moment_fit import MomentFit, check_shared_dim
from .moments import paired_moments
from .procrustes import Procrustes
from .ridge import Ridge


FitName = Literal["auto", "procrustes", "cca", "ridge"]
FIT_NAMES = ("auto", "procrustes", "cca", "ridge")
CCA_REGULARIZATIONS = (0.03, 0.1, 0.3, 1.0, 3.0)
RIDGE_ALPHAS = (0.1, 1.0, 10.0)
WIDTHS = (64, 128, 256, 512)


class Candidate(NamedTuple):
    """One fit that was tried.

    Attributes:
        fit: Its name and arguments, as it would be written.
        shared_dim: Width of its shared space.
        recall: Mean Recall@1 of the two directions on the validation pairs, in [0, 1].
        mean_average_precision: Of the two directions, in [0, 1]; decides between equal recalls.
    """

    fit: str
    shared_dim: int
    recall: float
    mean_average_precision: float


class Choice(NamedTuple):
    """The best fit, and all that were tried, best first."""

    fit: MomentFit
    candidates: list[Candidate]


def choose_fit(
    train: tuple[Tensor, Tensor, Any],
    validation: tuple[Tensor, Tensor, Any],
    *,
    kind: FitName = "auto",
    shared_dim: int | None = None,
) -> Choice:
    """Fit every candidate on the training pairs and take the one that retrieves best on the validation pairs.

    The training data is read once: all candidates are closed forms in the same moments, and a narrower shared
    space is the leading part of a wider one.

    Args:
        train: Context features (N, Dc), query features (M, Dq), pairs (P, 2) or None for row i with row i.
        validation: The same of other pairs; every row is a candidate.
        kind: `procrustes`, `cca`, `ridge`, or `auto` for all of them.
        shared_dim: Width of the shared space; None tries several up to the narrower side's.

    Returns:
        A [`Choice`].

    Raises:
        ValueError: If an argument is malformed, or `shared_dim` is wider than the fits allow.

    Example:
        >>> x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
        >>> y = x.flip(1) @ torch.diag(torch.arange(1.0, 9))
        >>> choice = choose_fit((x[:100], y[:100], None), (x[100:], y[100:], None))
        >>> choice.candidates[0].recall
        1.0
    """
    if kind not in FIT_NAMES:
        raise ValueError(f"kind must be one of {', '.join(FIT_NAMES)}; got {kind!r}")
    context, query, pairs = check_fit("choose_fit", *train, 2)
    narrow = min(context.shape[1], query.shape[1])
    if shared_dim is not None and not (kind in ("auto", "ridge") and shared_dim in (context.shape[1], query.shape[1])):
        check_shared_dim(shared_dim, narrow)
    moments = paired_moments(context, query, pairs)
    dtype = torch.promote_types(context.dtype, query.dtype)

    tried: list[tuple[Candidate, MomentFit]] = []
    for fit in _fits(kind, context.shape[1], query.shape[1], shared_dim):
        fit._finish(moments, dtype)
        for width in _widths(fit, narrow, shared_dim):
            left, right = (AffineMap(a.weight[:width], a.bias[:width]) for a in (fit.context_map_, fit.query_map_))
            found = retrieval(left(validation[0].to(dtype)), right(validation[1].to(dtype)), validation[2])
            precision = (found["context_to_query_map"] + found["query_to_context_map"]) / 2
            arguments = fit.get_params()
            if "shared_dim" in arguments:
                arguments["shared_dim"] = width
            narrowed = type(fit)(**arguments)
            tried.append((Candidate(repr(narrowed), width, found["mean_recall@1"], precision), narrowed))
    if not tried:
        raise ValueError(
            f"no fit of kind {kind!r} has shared_dim {shared_dim}; a ridge's is the width of a side, "
            f"{context.shape[1]} or {query.shape[1]}"
        )
    # Of equally good ones the narrowest: less to store and to search.
    tried.sort(key=lambda pair: (-pair[0].recall, -pair[0].mean_average_precision, pair[0].shared_dim))
    best = tried[0][1]
    best._finish(moments, dtype)
    return Choice(best, [candidate for candidate, _ in tried])


def _fits(kind: FitName, context_dim: int, query_dim: int, shared_dim: int | None) -> Iterator[MomentFit]:
    reaches = shared_dim is None or shared_dim <= min(context_dim, query_dim)
    if kind in ("auto", "procrustes") and reaches:
        yield Procrustes()
    if kind in ("auto", "cca") and reaches:
        yield from (CCA(regularization=value) for value in CCA_REGULARIZATIONS)
    if kind in ("auto", "ridge"):
        sides: dict[Literal["query", "context"], int] = {"query": query_dim, "context": context_dim}
        for side, width in sides.items():
            if shared_dim in (None, width):
                yield from (Ridge(alpha=value, target=side) for value in RIDGE_ALPHAS)


def _widths(fit: MomentFit, narrow: int, shared_dim: int | None) -> list[int]:
    if isinstance(fit, Ridge) or shared_dim is not None:
        return [shared_dim or fit.shared_dim_]
    # Multiples of 4, which attention heads and sine-cosine positions on top will need.
    return sorted({width for width in WIDTHS if width < narrow} | {narrow // 4 * 4 or narrow})
