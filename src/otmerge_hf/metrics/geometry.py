"""How two clouds lie in the shared space: embeddings of both sides in, distances out."""

import torch
from torch import Tensor

from .neighbours import check_vectors, normalise


def modality_gap(context: Tensor, query: Tensor) -> float:
    r"""Distance between the two sides' centres on the unit sphere.

    .. math:: \Big\| \tfrac1N \sum_i \tfrac{x_i}{|x_i|} - \tfrac1M \sum_j \tfrac{y_j}{|y_j|} \Big\|

    Args:
        context: Shared embeddings, (N, D).
        query: Shared embeddings, (M, D); no pairs are needed.

    Returns:
        Gap in [0, 2]. A small gap does not mean good retrieval: two clouds may overlap and be shuffled.

    Raises:
        ValueError: If the embeddings are malformed or of different widths.

    Example:
        >>> modality_gap(torch.tensor([[2.0, 0.0]]), torch.tensor([[-5.0, 0.0]]))
        2.0

    Source: Liang et al. 2022, "Mind the Gap", section 2.
    """
    context = check_vectors("context", context)
    query = check_vectors("query", query, dim=context.shape[1])
    return float((normalise(context.double()).mean(0) - normalise(query.double()).mean(0)).norm())


def squared_wasserstein2(context: Tensor, query: Tensor) -> float:
    r"""Exact squared 2-Wasserstein distance between two clouds of equal weights.

    .. math:: W_2^2 = \min_P \sum_{ij} P_{ij} |x_i - y_j|^2, \quad P 1 = 1/N,\; P^\top 1 = 1/M

    Args:
        context: Shared embeddings, (N, D).
        query: Shared embeddings, (M, D).

    Returns:
        Squared distance, in squared feature units. Time grows about cubically: a few thousand rows at most.

    Raises:
        ValueError: If the embeddings are malformed or of different widths.
        ImportError: If POT is not installed.

    Example:
        >>> squared_wasserstein2(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
        1.0

    Source: Peyré & Cuturi 2019, section 2.2; solved by POT's network simplex, ``ot.emd2``.
    """
    context = check_vectors("context", context)
    query = check_vectors("query", query, dim=context.shape[1])
    try:
        import ot
    except ImportError as error:
        raise ImportError("squared_wasserstein2 needs the package POT: pip install POT") from error
    x, y = (side.double().cpu().numpy() for side in (context, query))
    uniform = [torch.full((len(side),), 1 / len(side), dtype=torch.float64).numpy() for side in (x, y)]
    return float(ot.emd2(*uniform, ot.dist(x, y, metric="sqeuclidean"), numItermax=10_000_000))
