"""How two clouds lie in the shared space: embeddings of both sides in, distances out.

Every function takes `context` (N, D) and `query` (M, D), which need no pairs, and raises ValueError if they are
malformed or of different widths.
"""

from torch import Tensor

from ..transport import sinkhorn_divergence, wasserstein2
from .neighbours import check_vectors, normalise


def _clouds(context: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    context = check_vectors("context", context).double()
    return context, check_vectors("query", query, dim=context.shape[1]).double()


def modality_gap(context: Tensor, query: Tensor) -> float:
    r"""Distance between the two sides' centres on the unit sphere.

    $$ \Big\| \tfrac1N \sum_i \tfrac{x_i}{|x_i|} - \tfrac1M \sum_j \tfrac{y_j}{|y_j|} \Big\| $$

    Returns:
        Gap in [0, 2]. A small gap does not mean good retrieval: two clouds may overlap and be shuffled.

    Example:
        >>> import torch
        >>> modality_gap(torch.tensor([[2.0, 0.0]]), torch.tensor([[-5.0, 0.0]]))
        2.0

    Source: Liang et al. 2022, "Mind the Gap", section 2.
    """
    x, y = (normalise(side).mean(0) for side in _clouds(context, query))
    return float((x - y).norm())


def squared_wasserstein2(context: Tensor, query: Tensor) -> float:
    r"""Exact squared 2-Wasserstein distance between two clouds of equal weights.

    $$ W_2^2 = \min_P \sum_{ij} P_{ij} |x_i - y_j|^2, \quad P 1 = 1/N,\; P^\top 1 = 1/M $$

    Returns:
        In squared feature units. Time grows about cubically: a few thousand rows at most.

    Raises:
        ImportError: If POT is not installed.

    Example:
        >>> import torch
        >>> squared_wasserstein2(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
        1.0

    Source: Peyré & Cuturi 2019, section 2.2; solved by [`wasserstein2`].
    """
    return float(wasserstein2(*_clouds(context, query)) ** 2)


def debiased_sinkhorn(context: Tensor, query: Tensor, *, epsilon: float = 0.05) -> float:
    """Sinkhorn divergence in float64, with epsilon relative to the mean cost; see [`sinkhorn_divergence`].

    Returns:
        Half of squared feature units: about half of [`squared_wasserstein2`] for a small epsilon.

    Example:
        >>> import torch
        >>> x = torch.eye(3)
        >>> round(debiased_sinkhorn(x, x + 2), 3)
        6.0

    Source: Feydy et al. 2019, eq. 3.
    """
    return float(sinkhorn_divergence(*_clouds(context, query), epsilon=epsilon, tol=1e-5).value)
