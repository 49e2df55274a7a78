"""Several fits on the training rows, the best by retrieval on validation pairs."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..metrics.retrieval import retrieval
from .base import Alignment, check_fit, check_shared_dim, unpaired_rows
from .cca import CCA
from .gaussian_monge import GaussianMonge
from .moment_fit import MomentFit
from .moments import Moments, paired_moments
from .procrustes import Procrustes
from .recommendations import FitName, recommend
from .ridge import Ridge
from .sinkhorn_procrustes import SinkhornProcrustes
from .wasserstein_procrustes import WassersteinProcrustes


FIT_NAMES: tuple[FitName, ...] = get_args(FitName)
# Fits that look at rows which no pair names, and those that cannot do without.
UNPAIRED_FITS = ("sinkhorn_procrustes", "wasserstein_procrustes", "gaussian_monge")
NEED_UNPAIRED = UNPAIRED_FITS[:2]
CCA_REGULARIZATIONS = (0.03, 0.1, 0.3, 1.0, 3.0)
RIDGE_ALPHAS = (0.1, 1.0, 10.0)
SINKHORN_EPSILONS = (0.03, 0.1)
SINKHORN_PAIR_WEIGHTS = (0.1, 0.3)
# As benchmarks/results/alignment/table.md measured it: pairs give a start, so few clusterings do.
WASSERSTEIN = {"restarts": 5, "iterations": 15, "batch_size": 600}
MONGE_REGULARIZATIONS = (1e-6, 1e-2)
WIDTHS = (64, 128, 256, 512)
Rows = tuple[Tensor, Tensor, Any]  # features of both sides, (N, Dc) and (M, Dq), and pairs (P, 2) or None


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
    """The best fit, fitted on the training rows, and all that were tried, best first."""

    fit: Alignment
    candidates: list[Candidate]


def choose_fit(
    train: Rows,
    validation: Rows,
    *,
    kind: FitName = "auto",
    shared_dim: int | None = None,
) -> Choice:
    """Fit every candidate on the training rows and take the one that retrieves best on the validation pairs.

    The closed forms read the training data once: all of them are functions of the same moments, and a narrower
    shared space is the leading part of a wider one.

    Args:
        train: Context features (N, Dc), query features (M, Dq), pairs (P, 2) or None for row i with row i. Rows that
            no pair names are unpaired: fits that can use them do.
        validation: The same of other pairs; every row is a candidate.
        kind: One fit, or `auto`: the closed forms `procrustes`, `cca` and `ridge`; where [`recommend`] names a fit
            of unpaired rows, `sinkhorn_procrustes` and `wasserstein_procrustes` too. `gaussian_monge` is for two
            sides in one frame, and only tried when asked for.
        shared_dim: Width of the shared space; None tries several up to the narrower side's.

    Raises:
        ValueError: If an argument is malformed, or no fit of that kind has this `shared_dim`.

    Example:
        >>> x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
        >>> y = x.flip(1) @ torch.diag(torch.arange(1.0, 9))
        >>> choice = choose_fit((x[:100], y[:100], None), (x[100:], y[100:], None))
        >>> choice.candidates[0].recall
        1.0
    """
    return _choose(train, validation, kind, shared_dim)[0]


def choose_and_refit(
    train: Rows, validation: Rows, both: Callable[[], Rows], *, kind: FitName = "auto", shared_dim: int | None = None
) -> tuple[Choice, Alignment]:
    """[`choose_fit`], and the best one fitted once more, on the rows of both splits; arguments as there.

    Closed forms read the training rows once: the moments of validation's pairs are added to theirs.

    Args:
        train, validation: They share no pair.
        kind, shared_dim: See [`choose_fit`].
        both: Gives the rows of both as one, for fits that read rows.
    """
    choice, moments = _choose(train, validation, kind, shared_dim)
    fresh = type(choice.fit)(**choice.fit.get_params())
    if not isinstance(fresh, MomentFit):
        return choice, fresh.fit(*both())
    context, query, pairs = check_fit("choose_and_refit", *validation, 1)
    device = moments.cross.device
    joined = moments.joined(paired_moments(context.to(device), query.to(device), pairs))
    return choice, fresh.fit_moments(joined, choice.fit.context_map_.weight.dtype)


def _choose(train: Rows, validation: Rows, kind: FitName, shared_dim: int | None) -> tuple[Choice, Moments]:
    """The choice, and the moments of the training pairs."""
    context, query, pairs = check_fit("choose_fit", *train, 2)
    dims = context.shape[1], query.shape[1]
    check_choice(kind, shared_dim, *dims)
    moments = paired_moments(context, query, pairs)
    dtype = torch.promote_types(context.dtype, query.dtype)
    sides, matches = [side.to(dtype) for side in validation[:2]], validation[2]

    tried: list[tuple[Candidate, Alignment]] = []
    for fit in _closed_forms(kind, *dims, shared_dim):
        fit.fit_moments(moments, dtype)
        shared = _shared(fit, sides)
        for width in _widths(fit, min(dims), shared_dim):
            narrowed = fit if isinstance(fit, Ridge) else type(fit)(**fit.get_params() | {"shared_dim": width})
            tried.append((_candidate(narrowed, (shared[0][:, :width], shared[1][:, :width]), matches), narrowed))
    free = min(len(rows) for rows in unpaired_rows(pairs, len(context), len(query)))
    for other in _others(kind, *dims, shared_dim, recommend(len(pairs), free).fit in NEED_UNPAIRED):
        other.fit(context, query, pairs)
        tried.append((_candidate(other, _shared(other, sides), matches), other))
    # Of equally good ones the narrowest: less to store and to search.
    tried.sort(key=lambda pair: (-pair[0].recall, -pair[0].mean_average_precision, pair[0].shared_dim))
    best = tried[0][1]
    if isinstance(best, MomentFit):
        best.fit_moments(moments, dtype)
    return Choice(best, [candidate for candidate, _ in tried]), moments


def check_fit_name(fit: str, **unpaired: object) -> None:
    """Refuse an unknown fit, and unpaired rows (those of the keywords that are true) for a fit that reads none."""
    if fit not in FIT_NAMES:
        raise ValueError(f"fit must be one of {', '.join(FIT_NAMES)}; got {fit!r}")
    given = " and ".join(name for name, rows in unpaired.items() if rows)
    if given and fit not in ("auto", *UNPAIRED_FITS):
        raise ValueError(f"fit {fit!r} does not use {given}; fits that do are auto, {', '.join(UNPAIRED_FITS)}")


def check_choice(kind: str, shared_dim: int | None, context_dim: int, query_dim: int) -> None:
    """Refuse an unknown kind of fit, and a width that no fit of the kind has."""
    if kind not in FIT_NAMES:
        raise ValueError(f"kind must be one of {', '.join(FIT_NAMES)}; got {kind!r}")
    if kind == "gaussian_monge":
        if context_dim != query_dim or shared_dim not in (None, context_dim):
            got = f"{context_dim}, {query_dim} and shared_dim {shared_dim}"
            raise ValueError(f"gaussian_monge keeps one width for context, query and shared space; got {got}")
    elif shared_dim is not None and not (kind in ("auto", "ridge") and shared_dim in (context_dim, query_dim)):
        check_shared_dim(shared_dim, min(context_dim, query_dim))
        if kind == "ridge":
            widths = f"{context_dim} or {query_dim}"
            raise ValueError(f"shared_dim is {shared_dim}; a ridge's is the width of a side, {widths}")


def _shared(fit: Alignment, sides: list[Tensor]) -> tuple[Tensor, Tensor]:
    return fit.transform_context(sides[0]), fit.transform_query(sides[1])


def _candidate(fit: Alignment, shared: tuple[Tensor, Tensor], matches: Any) -> Candidate:
    found = retrieval(*shared, matches)
    precision = (found["context_to_query_map"] + found["query_to_context_map"]) / 2
    return Candidate(repr(fit), shared[0].shape[1], found["mean_recall@1"], precision)


def _closed_forms(kind: FitName, context_dim: int, query_dim: int, shared_dim: int | None) -> Iterator[MomentFit]:
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


def _others(
    kind: FitName, context_dim: int, query_dim: int, shared_dim: int | None, unpaired: bool
) -> Iterator[Alignment]:
    narrow = min(context_dim, query_dim)
    width = shared_dim or narrow // 4 * 4 or narrow
    helps = kind == "auto" and unpaired and width <= narrow
    if kind == "sinkhorn_procrustes" or helps:
        for epsilon, weight in product(SINKHORN_EPSILONS, SINKHORN_PAIR_WEIGHTS):
            yield SinkhornProcrustes(Procrustes(shared_dim=width), epsilon=epsilon, pair_weight=weight)
    if kind == "wasserstein_procrustes" or helps:
        yield WassersteinProcrustes(shared_dim=width, **WASSERSTEIN)
    if kind == "gaussian_monge":
        yield from (GaussianMonge(regularization=value) for value in MONGE_REGULARIZATIONS)


def _widths(fit: MomentFit, narrow: int, shared_dim: int | None) -> list[int]:
    if isinstance(fit, Ridge) or shared_dim is not None:
        return [shared_dim or fit.shared_dim_]
    # Multiples of 4, which attention heads and sine-cosine positions on top will need.
    return sorted({width for width in WIDTHS if width < narrow} | {narrow // 4 * 4 or narrow})
