"""What an adapter gives back: features in, the relative error of returning to them out."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..metrics.neighbours import check_vectors, nearest_neighbours
from ..model.adapters import Adapter


class ReconstructionErrors(NamedTuple):
    """Relative errors of the ways back from the shared space; None for a way that the adapter does not have.

    Attributes:
        inverse: Of the exact or left inverse.
        decoder: Of the decoder, which approximates.
    """

    inverse: float | None
    decoder: float | None


def relative_error(found: Tensor, x: Tensor) -> float:
    r"""Frobenius norm of the difference over that of `x`; both (N, D), float64 inside.

    $$ \lVert \hat X - X \rVert_F / \lVert X \rVert_F $$

    Returns:
        0 is exact. Where `x` is standardised, always answering the mean gives 1.

    Raises:
        ValueError: If the shapes differ, or `x` is nothing but zeros.

    Example:
        >>> relative_error(torch.zeros(2, 3), torch.ones(2, 3))
        1.0
    """
    if found.shape != x.shape:
        raise ValueError(f"found {tuple(found.shape)} and x {tuple(x.shape)} must have one shape")
    norm = x.double().norm()
    if norm == 0:
        raise ValueError("x is zero: no error is relative to it")
    return float((found.double() - x.double()).norm() / norm)


@torch.no_grad()
def reconstruction_errors(adapter: Adapter, x: Tensor) -> ReconstructionErrors:
    """Errors of an adapter's ways back, on the features that it receives: standardised ones, in a merge.

    Args:
        adapter: A merge's `context_adapter` or `query_adapter`, say.
        x: Features (N, in_dim), in the adapter's dtype.

    Raises:
        ValueError: If `x` is no such matrix.

    Example:
        >>> from otmerge_hf.model.adapters import LinearAdapter
        >>> reconstruction_errors(LinearAdapter(4, 6).double(), torch.randn(9, 4).double()).inverse < 1e-12
        True
    """
    x = check_vectors("x", x, dim=adapter.in_dim)
    z = adapter(x)
    exact = adapter.invertibility in ("exact", "left-inverse")
    return ReconstructionErrors(
        relative_error(adapter.inverse(z), x) if exact else None,
        None if adapter.decoder is None else relative_error(adapter.decoder(z), x),
    )


@torch.no_grad()
def cycle_error(there: Adapter, other: Adapter, x: Tensor, candidates: Tensor | None = None) -> float:
    r"""Relative error of x -> z -> y -> z' -> x', from one modality through the other and back.

    $$ z = f(x), \quad y = g^{-1}(z) \text{ or the candidate whose } g(y) \text{ has the largest cosine with } z,
       \quad x' = f^{-1}(g(y)) $$

    Without candidates it tells only what the widths lose: y may be a point that no encoder gives. With candidates it
    also holds what the other modality does not say; no merge brings that to 0.

    Args:
        there: The adapter f of x.
        other: The adapter g of the other modality.
        x: Features (N, D_x), in the adapters' dtype.
        candidates: Features (M, D_y) of the other modality to choose from; None maps by g's inverse.

    Raises:
        ValueError: If features do not fit, or an adapter has neither an inverse nor a decoder.

    Example:
        >>> from otmerge_hf.model.adapters import LinearAdapter
        >>> f, g = LinearAdapter(4, 6).double(), LinearAdapter(6, 6).double()
        >>> cycle_error(f, g, torch.randn(9, 4).double()) < 1e-10
        True

    Source: cycle consistency, Zhu et al. 2017, eq. 2, as a relative error.
    """
    z = there(check_vectors("x", x, dim=there.in_dim))
    if candidates is None:
        y = other.inverse(z)
    else:
        candidates = check_vectors("candidates", candidates, dim=other.in_dim)
        y = candidates[nearest_neighbours(z, other(candidates), k=1)[1][:, 0]]
    return relative_error(there.inverse(other(y)), x)
