import importlib.util
import sys

import pytest
import torch

from otmerge_hf.metrics import nearest_neighbours, neighbours


def brute_force(queries, candidates, k, similarity):
    if similarity == "cosine":
        scores = torch.cosine_similarity(queries[:, None], candidates[None], dim=-1)
    else:
        scores = -((queries[:, None] - candidates[None]) ** 2).sum(-1)
    order = scores.sort(dim=1, descending=True)
    return order.values[:, :k], order.indices[:, :k]


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_blocks_agree_with_brute_force(similarity, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 7)  # several blocks, the last one short
    queries, candidates = torch.randn(31, 5).double(), torch.randn(40, 5).double()
    scores, indices = nearest_neighbours(queries, candidates, 6, similarity=similarity)
    expected_scores, expected = brute_force(queries, candidates, 6, similarity)
    assert torch.equal(indices, expected)
    torch.testing.assert_close(scores, expected_scores)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_faiss_and_torch_agree(similarity):
    queries, candidates = torch.randn(300, 16), torch.randn(500, 16)
    found = nearest_neighbours(queries, candidates, 5, similarity=similarity, backend="faiss")
    exact = nearest_neighbours(queries, candidates, 5, similarity=similarity, backend="torch")
    torch.testing.assert_close(found[0], exact[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[1], exact[1])


def test_asking_for_missing_faiss_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="faiss-cpu"):
        nearest_neighbours(torch.eye(2), torch.eye(2), 1, backend="faiss")


def test_half_precision_is_raised():
    scores, _ = nearest_neighbours(torch.eye(3).bfloat16(), torch.eye(3).bfloat16(), 1)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (torch.eye(2), 3, "k must be between 1 and the 2 candidates"),
        (torch.eye(2), 0, "k must be between 1"),
        (torch.ones(2), 1, r"queries must be \(rows, features\), got shape \(2,\)"),
        (torch.ones(0, 2), 1, "queries is empty"),
        (torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), 1, "queries has NaN or infinity, first in row 1"),
        (torch.ones(2, 2, dtype=torch.long), 1, "queries must hold floating-point features"),
        (torch.ones(2, 3), 1, "candidates has 2 features, expected 3"),
    ],
)
def test_bad_input_is_named(queries, k, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(queries, torch.eye(2), k)


def test_unknown_similarity_and_backend():
    with pytest.raises(ValueError, match="similarity must be"):
        nearest_neighbours(torch.eye(2), torch.eye(2), 1, similarity="dot")
    with pytest.raises(ValueError, match="backend must be"):
        nearest_neighbours(torch.eye(2), torch.eye(2), 1, backend="annoy")
