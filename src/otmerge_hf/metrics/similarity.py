"""How alike two representations of the same items are: paired features (N, Dx), (N, Dy) in, one number out.

Every public function raises ValueError if the rows do not match, are too few, or (but for neighbours) one side is
constant.
"""

import torch
from torch import Tensor

from .neighbours import Similarity, check_similarity, check_vectors, nearest_neighbours


def _paired(x: Tensor, y: Tensor, least: int) -> tuple[Tensor, Tensor]:
    x, y = check_vectors("x", x), check_vectors("y", y)
    if len(x) != len(y):
        raise ValueError(f"x and y must hold the same items row by row, got {len(x)} and {len(y)} rows")
    if len(x) < least:
        raise ValueError(f"x and y need at least {least} rows, got {len(x)}")
    return x.double(), y.double()


def linear_cka(x: Tensor, y: Tensor, *, debiased: bool = False) -> float:
    r"""Linear centred kernel alignment of two representations of the same items.

    $$ \frac{\|X_c^\top Y_c\|_F^2}{\|X_c^\top X_c\|_F \, \|Y_c^\top Y_c\|_F} $$

    Args:
        x, y: Features of the same items, (N, Dx) and (N, Dy).
        debiased: Use the unbiased estimate of HSIC. The plain value tends to 1 when N is below the widths, whatever
            the features; the debiased one is centred on 0 for unrelated features (and can be below 0).

    Returns:
        CKA, in [0, 1]; at most 1 when debiased.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
        >>> round(linear_cka(x, x.flip(1)), 6)
        1.0

    Source: Kornblith et al. 2019, eq. 4; debiased HSIC: Song et al. 2012, eq. 5.
    """
    x, y = _paired(x, y, least=4 if debiased else 2)
    x, y = x - x.mean(0), y - y.mean(0)
    if not debiased and len(x) > max(x.shape[1], y.shape[1]):  # the smaller of the two equal forms
        xy, xx, yy = (float(((a.T @ b) ** 2).sum()) for a, b in ((x, y), (x, x), (y, y)))
    else:
        k, m = x @ x.T, y @ y.T
        xy, xx, yy = (hsic(a, b) if debiased else float((a * b).sum()) for a, b in ((k, m), (k, k), (m, m)))
    if xx <= 0 or yy <= 0:
        raise ValueError(f"{'x' if xx <= 0 else 'y'} does not vary over its rows: CKA is undefined")
    return xy / (xx * yy) ** 0.5


def hsic(k: Tensor, m: Tensor) -> float:
    r"""Unbiased Hilbert-Schmidt independence criterion of two kernel matrices (N, N), N >= 4; may be negative.

    $$ \frac{1}{n(n-3)} \Big( \operatorname{tr}(\tilde K \tilde M)
       + \frac{1^\top \tilde K 1 \, 1^\top \tilde M 1}{(n-1)(n-2)}
       - \frac{2}{n-2} 1^\top \tilde K \tilde M 1 \Big), \quad \tilde K \text{ without its diagonal} $$

    Source: Song et al. 2012, eq. 5.
    """
    n = len(k)
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    ones = k.sum() * m.sum() / ((n - 1) * (n - 2))
    cross = 2 / (n - 2) * (k.sum(0) @ m.sum(1))
    return float(((k * m).sum() + ones - cross) / (n * (n - 3)))


def neighbour_sets(x: Tensor, k: int, similarity: Similarity = "cosine") -> Tensor:
    """Indices (N, k), long, of the k nearest other rows of every row of `x` (N, D)."""
    if not 1 <= k <= len(x) - 1:
        raise ValueError(f"k must be between 1 and rows - 1 = {len(x) - 1}, got {k}")
    _, indices = nearest_neighbours(x, x, k + 1, similarity=similarity)
    # A row is usually its own first neighbour, but not when another row is its duplicate: drop it by name.
    others = indices != torch.arange(len(x), device=x.device)[:, None]
    others[others.all(dim=1), -1] = False
    return indices[others].reshape(len(x), k)


def neighbour_overlap(first: Tensor, second: Tensor) -> float:
    """Mean share, in [0, 1], of common members of two lists of neighbours (N, k) without repetitions in a row."""
    shared = sum((first[:, i, None] == second).any(dim=1).double() for i in range(first.shape[1]))
    return float(torch.as_tensor(shared).mean() / first.shape[1])


def mutual_knn(x: Tensor, y: Tensor, k: int = 10, *, similarity: Similarity = "cosine") -> float:
    r"""Mean overlap of the k nearest neighbours in two representations of the same items.

    $$ \operatorname{mean}_i |N_k^x(i) \cap N_k^y(i)| / k $$

    Args:
        x, y: Features of the same items, (N, Dx) and (N, Dy).
        k: Neighbours, 1 to N - 1.
        similarity: `"cosine"` or `"euclidean"`, in each space by itself.

    Returns:
        Overlap in [0, 1]; unrelated features give about k / (N - 1).

    Example:
        >>> x = torch.arange(6.0)[:, None]
        >>> mutual_knn(x, -2 * x, k=2, similarity="euclidean")
        1.0

    Source: Huh et al. 2024, "The Platonic Representation Hypothesis", section 2.
    """
    check_similarity(similarity)
    x, y = _paired(x, y, least=2)
    return neighbour_overlap(neighbour_sets(x, k, similarity), neighbour_sets(y, k, similarity))


def procrustes_error(x: Tensor, y: Tensor) -> float:
    r"""Share of variance that no shift, scale and rotation of `x` can bring onto `y`.

    $$ 1 - \Big(\sum_i \sigma_i(X^\top Y)\Big)^2, \quad X, Y \text{ centred, unit Frobenius norm} $$

    Returns:
        Error in [0, 1]; 0 when the clouds are the same shape. The narrower side counts as padded with zeros.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> abs(procrustes_error(x, 3 * x.flip(1) + 1)) < 1e-9
        True

    Source: Gower 1975; checked against scipy.spatial.procrustes.
    """
    x, y = _paired(x, y, least=2)
    x, y = x - x.mean(0), y - y.mean(0)
    for name, side in (("x", x), ("y", y)):
        if side.norm() == 0:
            raise ValueError(f"{name} does not vary over its rows: the Procrustes error is undefined")
    total = torch.linalg.svdvals((x / x.norm()).T @ (y / y.norm())).sum()
    return max(0.0, 1.0 - float(total) ** 2)
