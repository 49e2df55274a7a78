"""What every fit has in common: two affine maps into one shared space, and how good they are."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from ..metrics.neighbours import check_vectors
from ..metrics.retrieval import check_pairs, retrieval


class AffineMap(NamedTuple):
    """An affine map from an encoder's space into the shared space, as `torch.nn.Linear` stores it.

    Attributes:
        weight: (shared_dim, D).
        bias: (shared_dim,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x @ weight.T + bias`: (..., D) -> (..., shared_dim)."""
        return x @ self.weight.T + self.bias

    def widened(self, width: int) -> "AffineMap":
        """Add rows of zeros up to `width`: distances and cosines stay as they are.

        Example:
            >>> AffineMap(torch.ones(1, 3), torch.ones(1)).widened(2).weight
            tensor([[1., 1., 1.],
                    [0., 0., 0.]])
        """
        missing, pad = width - len(self.bias), torch.nn.functional.pad
        return AffineMap(pad(self.weight, (0, 0, 0, missing)), pad(self.bias, (0, missing)))

    def completed(self, width: int, scale: float = 0.01) -> "AffineMap":
        r"""Add what the map loses as further coordinates, small: it gets an exact inverse, cosines stay as they are.

        $$ x \mapsto (W x + b, \; s \, \bar\sigma B x, \; 0), \quad B \text{ an orthonormal basis of } \ker W $$

        with $\bar\sigma$ the root mean square of W's singular values other than 0. A coordinate's own rounding is
        relative, so small ones keep what they hold. Cosines change by about $s^2$.

        Args:
            width: At least shared_dim plus the dimensions that the map loses: D + shared_dim - rank.
            scale: s; 1 gives what was lost the same weight as the rest.

        Raises:
            ValueError: If `width` is too small, or `scale` is not positive.

        Example:
            >>> whole = AffineMap(torch.ones(1, 2), torch.ones(1)).completed(2, scale=0.1)
            >>> whole.weight.abs().round(decimals=4)
            tensor([[1.0000, 1.0000],
                    [0.1000, 0.1000]])
        """
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        _, values, directions = torch.linalg.svd(self.weight.double())
        rank = int((values > values[0] * max(self.weight.shape) * torch.finfo(self.weight.dtype).eps).sum())
        lost = directions[rank:]  # (D - rank, D)
        least = len(self.weight) + len(lost)
        if width < least:
            raise ValueError(f"width must be at least {least}: {len(self.weight)}, and {len(lost)} lost; got {width}")
        rows = scale * values[:rank].square().mean().sqrt() * lost
        weight = torch.cat([self.weight, rows.to(self.weight)])
        return AffineMap(weight, torch.nn.functional.pad(self.bias, (0, len(lost)))).widened(width)


class Alignment(ABC):
    """Base of the fits: `fit(context, query, pairs)`, `transform_*`, `score`.

    Attributes that a fit sets:
        context_map_: [`AffineMap`], (shared_dim, Dc) and (shared_dim,), in the features' dtype.
        query_map_: [`AffineMap`], (shared_dim, Dq) and (shared_dim,).
        shared_dim_: Width of the shared space.
        n_pairs_: Number of distinct pairs used; 0 for an unpaired fit.

    Example:
        >>> from otmerge_hf.alignment import Procrustes
        >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> Procrustes().fit(x, x.flip(1)).score(x, x.flip(1))
        1.0
    """

    context_map_: AffineMap
    query_map_: AffineMap
    shared_dim_: int
    n_pairs_: int

    @abstractmethod
    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit the two maps, and return the fit itself.

        Args:
            context, query: Features, (N, Dc) and (M, Dq).
            pairs: (P, 2) long: context row, query row. None: row i with row i for paired fits (N must equal
                M), no pairs for unpaired fits.
        """

    def transform_context(self, x: Tensor) -> Tensor:
        """Map context features into the shared space: (..., Dc) -> (..., shared_dim).

        Raises:
            ValueError: If nothing was fitted yet or the width is wrong.
        """
        return self._transform("context", x)

    def transform_query(self, y: Tensor) -> Tensor:
        """Map query features, (..., Dq), likewise."""
        return self._transform("query", y)

    def score(self, context: Tensor, query: Tensor, pairs: Any = None) -> float:
        """Mean Recall@1 of the two directions by cosine in the shared space, in [0, 1].

        The arguments are those of [`Alignment.fit`]; every row is a candidate, matched or not.

        Raises:
            ValueError: If nothing was fitted yet or the input is malformed.
        """
        shared = self.transform_context(context), self.transform_query(query)
        return retrieval(*shared, pairs, ks=())["mean_recall@1"]

    def get_params(self) -> dict[str, Any]:
        """Return the constructor's arguments: `type(fit)(**fit.get_params())` is a fresh copy."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]  # without self
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"

    def _transform(self, side: str, x: Tensor) -> Tensor:
        affine: AffineMap | None = getattr(self, f"{side}_map_", None)
        if affine is None:
            raise ValueError(f"{type(self).__name__} is not fitted yet: call fit(context, query, pairs) first")
        x, width = torch.as_tensor(x), affine.weight.shape[1]
        if x.ndim == 0 or x.shape[-1] != width:
            raise ValueError(f"{side} features must be (..., {width}), the fitted width; got shape {tuple(x.shape)}")
        return affine(x.to(affine.weight))

    def _set_maps(
        self, weights: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor], dtype: torch.dtype, n_pairs: int
    ) -> None:
        """Store float64 weights as affine maps of centred features, in the features' own precision."""
        self.context_map_, self.query_map_ = (
            AffineMap(weight.to(dtype).contiguous(), -(weight @ mean).to(dtype))
            for weight, mean in zip(weights, means, strict=True)
        )
        self.shared_dim_, self.n_pairs_ = len(weights[0]), n_pairs


def check_fit(name: str, context: Tensor, query: Tensor, pairs: Any, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features of both sides and distinct pairs (P, 2), checked for the fit `name` that needs `least` pairs."""
    context, query = check_vectors("context", context), check_vectors("query", query)
    if context.device != query.device:
        raise ValueError(f"context is on {context.device} and query on {query.device}: put both on one device")
    index = check_pairs(pairs, len(context), len(query)).to(context.device)
    if len(index) < least:
        raise ValueError(f"{name} needs at least {least} distinct pairs, got {len(index)}")
    return context, query, index


def check_shared_dim(shared_dim: int | None, largest: int) -> int:
    """Return the width to use, `largest` when None, and refuse any that the narrower side does not have."""
    if shared_dim is None:
        return largest
    if not 1 <= shared_dim <= largest:
        raise ValueError(f"shared_dim must be between 1 and {largest}, the narrower side's width; got {shared_dim}")
    return shared_dim


def check_ridge(name: str, value: float) -> None:
    """Refuse a regularisation that is not a finite number of at least 0."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number, at least 0; got {value}")


def check_least(least: int, **counts: int) -> None:
    """Refuse counts below the least."""
    for name, value in counts.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def unpaired_rows(pairs: Tensor, n_context: int, n_query: int) -> tuple[Tensor, Tensor]:
    """Rows of each side that no pair (P, 2) names, long; possibly none.

    Example:
        >>> unpaired_rows(torch.tensor([[0, 1]]), 2, 3)
        (tensor([1]), tensor([0, 2]))
    """
    rows = []
    for column, size in zip(pairs.T, (n_context, n_query), strict=True):
        free = torch.ones(size, dtype=torch.bool, device=pairs.device)
        free[column] = False
        rows.append(free.nonzero()[:, 0])
    return rows[0], rows[1]


def one_to_one(pairs: Tensor, seed: int) -> Tensor:
    """Shuffled pairs in which no row appears twice: a repeated image would be its own neighbour."""
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))]
    seen: tuple[set[int], set[int]] = (set(), set())
    keep = []
    for position, (i, j) in enumerate(pairs.tolist()):
        if i not in seen[0] and j not in seen[1]:
            keep.append(position)
            seen[0].add(i)
            seen[1].add(j)
    return pairs[keep]
