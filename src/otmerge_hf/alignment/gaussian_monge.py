"""The Monge map between two Gaussians, P D P^T: unpaired, closed form, and only inside one frame."""

from typing import Any, Self

import torch
from torch import Tensor

from ..metrics.neighbours import check_vectors
from .base import Alignment, check_ridge
from .moments import covariance_of, mean_of


class GaussianMonge(Alignment):
    r"""Optimal transport map from the context's Gaussian onto the query's.

    $$ T(x) = m_y + A (x - m_x), \quad
       A = C_x^{-1/2} \big(C_x^{1/2} C_y C_x^{1/2}\big)^{1/2} C_x^{-1/2} = P D P^\top, \; D > 0 $$

    A is symmetric positive definite: it stretches along fixed axes and **cannot rotate**. It is right between
    two clouds in one frame (after [`Procrustes`]; two layers of one encoder; one encoder before and
    after fine-tuning) and at chance between two encoders whose axes mean different things, whatever the
    number of points. Needs no pairs; `fit` ignores them.

    Args:
        regularization: Added to each covariance, relative to its mean variance; more than 0 where rows are
            fewer than dimensions.

    Attributes:
        eigenvectors_: P, (D, D), float64, columns.
        eigenvalues_: D, (D,), positive, rising.

    Raises:
        ValueError: If the widths differ (a symmetric map is square) or a covariance is singular.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> GaussianMonge(0.0).fit(x, x * torch.tensor([2.0, 3.0])).eigenvalues_.round(decimals=4)
        tensor([2., 3.], dtype=torch.float64)

    Source: Peyré & Cuturi 2019, remark 2.31; checked against ot.gaussian.bures_wasserstein_mapping.
    """

    eigenvectors_: Tensor
    eigenvalues_: Tensor

    def __init__(self, regularization: float = 1e-6) -> None:
        check_ridge("regularization", regularization)
        self.regularization = regularization

    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit from two clouds of any sizes; see [`Alignment`]. Pairs are not used."""
        context, query = check_vectors("context", context), check_vectors("query", query)
        width = context.shape[1]
        if query.shape[1] != width:
            raise ValueError(
                f"GaussianMonge needs one frame: context has {width} features and query {query.shape[1]}. "
                "Use Procrustes or CCA, which map both sides into one shared space"
            )
        means = (mean_of(context), mean_of(query))
        covariances = []
        for name, side, mean in zip(("context", "query"), (context, query), means, strict=True):
            covariance = covariance_of(side, mean)
            covariance += self.regularization * covariance.diagonal().mean() * torch.eye(width).to(covariance)
            if float(torch.linalg.eigvalsh(covariance)[0]) <= 1e-12 * float(covariance.diagonal().mean()):
                raise ValueError(
                    f"{name} has a singular covariance ({len(side)} rows, {width} features): raise regularization"
                )
            covariances.append(covariance)
        root, inverse_root = _power(covariances[0], 0.5), _power(covariances[0], -0.5)
        transport = inverse_root @ _power(root @ covariances[1] @ root, 0.5) @ inverse_root
        transport = (transport + transport.T) / 2
        self.eigenvalues_, self.eigenvectors_ = torch.linalg.eigh(transport)
        dtype = torch.promote_types(context.dtype, query.dtype)
        self._set_maps((transport, torch.eye(width).to(transport)), means, dtype, n_pairs=0)
        return self


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0) ** exponent) @ vectors.T
