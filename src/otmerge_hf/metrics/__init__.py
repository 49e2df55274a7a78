"""Measures of retrieval and of geometry: pure functions, and `evaluate.Metric` classes over them."""

from .geometry import debiased_sinkhorn, modality_gap, squared_wasserstein2
from .modules import GeometryMetric, RetrievalMetric
from .neighbours import nearest_neighbours
from .retrieval import Ranking, foscttm, pairs_from_groups, rank_matches, recall_at_k, retrieval
from .similarity import linear_cka, mutual_knn, procrustes_error


__all__ = [
    "GeometryMetric",
    "Ranking",
    "RetrievalMetric",
    "debiased_sinkhorn",
    "foscttm",
    "linear_cka",
    "modality_gap",
    "mutual_knn",
    "nearest_neighbours",
    "pairs_from_groups",
    "procrustes_error",
    "rank_matches",
    "recall_at_k",
    "retrieval",
    "squared_wasserstein2",
]
