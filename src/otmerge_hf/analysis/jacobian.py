"""How a map stretches space around a sample: singular values of its Jacobians, and what they tell."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacfwd, jacrev, vmap

from ..metrics.neighbours import check_vectors
from ..model.adapters import Adapter, LinearAdapter, MongeAdapter, OrthogonalAdapter


# Numbers that a chunk of Jacobians may have: 64 MiB in float32.
_CHUNK_NUMBERS = 2**24
_AFFINE = (LinearAdapter, OrthogonalAdapter, MongeAdapter)


@dataclass(frozen=True)
class JacobianSpectrum:
    r"""Singular values of the Jacobians of a map at N points.

    Attributes:
        singular_values: (N, r), falling, r the smaller width: stretch along the principal axes, out per in.
        in_dim: Width of the points.
    """

    singular_values: Tensor
    in_dim: int

    def quantiles(self, q: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> Tensor:
        """Quantiles of all points' singular values, (len(q),); `q` in [0, 1]."""
        ordered = self.singular_values.flatten().sort().values  # `torch.quantile` takes 16 million at most
        places = torch.tensor(q, dtype=torch.float64) * (len(ordered) - 1)
        low = places.floor().long()
        high = places.ceil().long()
        return torch.lerp(ordered[low], ordered[high], (places - low).to(ordered))

    @property
    def condition(self) -> Tensor:
        """Largest over r-th singular value at each point, (N,); infinite where the latter is 0."""
        return self.singular_values[:, 0] / self.singular_values[:, -1]

    def rank(self, tolerance: float | None = None) -> Tensor:
        """Singular values above `tolerance` times the largest, (N,) long; by default r times the rounding unit."""
        largest = self.singular_values[:, :1]
        if tolerance is None:
            tolerance = self.in_dim * torch.finfo(largest.dtype).eps
        return (self.singular_values > tolerance * largest).sum(1)

    @property
    def effective_dimension(self) -> Tensor:
        r"""Exponential of the entropy of the normalised **squared** singular values, (N,), in [1, r].

        $$ \exp\Big(-\sum_i p_i \log p_i\Big), \quad p_i = \sigma_i^2 / \sum_j \sigma_j^2 $$

        Roy and Vetterli's effective rank takes the plain singular values; squares are shares of variance, for a
        cloud around the point that is even in every direction.
        """
        p = self.singular_values.double().square()
        p = p / p.sum(1, keepdim=True)
        return torch.special.entr(p).sum(1).exp()


@torch.no_grad()
def jacobian_spectrum(function: Callable[[Tensor], Tensor], x: Tensor) -> JacobianSpectrum:
    """Singular values of the Jacobian of a map at every row of `x`, by `torch.func`, a chunk of rows at a time.

    Affine adapters have one Jacobian, which is computed once.

    Args:
        function: Map of a point (D,) to a point (E,); an adapter, its inverse or its decoder, in evaluation mode.
        x: Points (N, D), in the map's dtype.

    Raises:
        ValueError: If `x` is no such matrix.

    Example:
        >>> jacobian_spectrum(lambda x: 2 * x, torch.randn(3, 4)).condition
        tensor([1., 1., 1.])

    Source: Roy and Vetterli 2007 for the effective dimension; checked against numpy.linalg.
    """
    x = check_vectors("x", x, dim=function.in_dim if isinstance(function, Adapter) else None)
    if isinstance(function, _AFFINE):
        one = _singular_values(function, x[:1])
        return JacobianSpectrum(one.expand(len(x), -1), x.shape[1])
    return JacobianSpectrum(_singular_values(function, x), x.shape[1])


def _singular_values(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    width, out = x.shape[1], function(x[0]).shape[0]
    jacobian = vmap((jacrev if out < width else jacfwd)(function))  # one pass for each number of the smaller width
    rows = max(1, _CHUNK_NUMBERS // (width * out * 4))  # passes of a network hold a few Jacobians' size
    return torch.cat([torch.linalg.svdvals(jacobian(part)) for part in x.split(rows)])
