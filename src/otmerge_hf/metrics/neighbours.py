"""Exact nearest neighbours: two sets of vectors in, scores and indices of the k best out."""

import importlib.util
from typing import Literal

import torch
from torch import Tensor


Similarity = Literal["cosine", "euclidean"]
# Rows scored at a time: a block against 100k candidates stays near 400 MB in float32.
BLOCK_ROWS = 1024


def check_vectors(name: str, value: Tensor, dim: int | None = None) -> Tensor:
    """Return `value`, anything `torch.as_tensor` takes, as a finite tensor (N, D), float32 or float64; `dim` is D."""
    tensor = torch.as_tensor(value).detach()
    if tensor.ndim != 2:
        raise ValueError(f"{name} must be (rows, features), got shape {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: shape {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must hold floating-point features, got {tensor.dtype}")
    if dim is not None and tensor.shape[1] != dim:
        raise ValueError(f"{name} has {tensor.shape[1]} features, expected {dim}")
    # In blocks: the mask of a 100k x 1024 tensor would be 100 MB for nothing.
    finite = torch.cat([block.isfinite().all(dim=1) for block in tensor.split(8192)])
    if not finite.all():
        raise ValueError(f"{name} has NaN or infinity, first in row {int(finite.long().argmin())}")
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def normalise(x: Tensor) -> Tensor:
    """Scale rows (..., D) to unit length; rows of zeros stay zeros."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


def block_scores(queries: Tensor, candidates: Tensor, similarity: Similarity) -> Tensor:
    """Scores (B, M) of queries (B, D) and candidates (M, D): cosine of unit vectors, or minus the squared distance."""
    dots = queries @ candidates.T
    if similarity == "cosine":
        return dots
    return (2 * dots - (queries**2).sum(1)[:, None] - (candidates**2).sum(1)[None, :]).clamp_max_(0)


def check_similarity(similarity: str) -> None:
    """Raise ValueError for a similarity that is not known."""
    if similarity not in ("cosine", "euclidean"):
        raise ValueError(f"similarity must be 'cosine' or 'euclidean', got {similarity!r}")


def nearest_neighbours(
    queries: Tensor,
    candidates: Tensor,
    k: int,
    *,
    similarity: Similarity = "cosine",
    backend: Literal["auto", "faiss", "torch"] = "auto",
) -> tuple[Tensor, Tensor]:
    """Find the k nearest candidates (M, D) of every query (N, D), exactly.

    FAISS's flat index is used when `faiss` is installed (extra `faiss`) and the vectors are float32 on the CPU;
    else blocks of rows go through one matrix product each. The two may order tied candidates differently.

    Returns:
        Scores (N, k), best first (cosine, or minus the squared distance), and indices (N, k), long.

    Raises:
        ValueError: If the inputs are not matching finite matrices, k is out of range, or FAISS is missing.

    Example:
        >>> nearest_neighbours(torch.eye(2), torch.eye(2), k=1)[1].tolist()
        [[0], [1]]
    """
    check_similarity(similarity)
    queries = check_vectors("queries", queries)
    candidates = check_vectors("candidates", candidates, dim=queries.shape[1])
    if not 1 <= k <= len(candidates):
        raise ValueError(f"k must be between 1 and the {len(candidates)} candidates, got {k}")
    installed = importlib.util.find_spec("faiss") is not None
    if backend == "faiss" and not installed:
        raise ValueError("backend='faiss' needs the package faiss-cpu (extra faiss): pip install faiss-cpu")
    if backend not in ("auto", "faiss", "torch"):
        raise ValueError(f"backend must be 'auto', 'faiss' or 'torch', got {backend!r}")
    if similarity == "cosine":
        queries, candidates = normalise(queries), normalise(candidates)
    # FAISS computes in float32 only: "auto" must not lower the precision of float64 vectors.
    suits = queries.device.type == "cpu" and queries.dtype == torch.float32
    if backend == "faiss" or (backend == "auto" and installed and suits):
        return _faiss_search(queries, candidates, k, similarity)
    blocks = [block_scores(block, candidates, similarity).topk(k, dim=1) for block in queries.split(BLOCK_ROWS)]
    return torch.cat([found.values for found in blocks]), torch.cat([found.indices for found in blocks])


def _faiss_search(queries: Tensor, candidates: Tensor, k: int, similarity: Similarity) -> tuple[Tensor, Tensor]:
    import faiss

    width = queries.shape[1]
    index = faiss.IndexFlatIP(width) if similarity == "cosine" else faiss.IndexFlatL2(width)
    index.add(candidates.float().cpu().contiguous().numpy())
    scores, indices = index.search(queries.float().cpu().contiguous().numpy(), k)
    signed = torch.from_numpy(scores if similarity == "cosine" else -scores)
    return signed.to(queries), torch.from_numpy(indices).to(queries.device)
