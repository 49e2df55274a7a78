"""Measures of retrieval, of geometry and of answers: pure functions, and `evaluate.Metric` classes over them."""

from .geometry import debiased_sinkhorn, modality_gap, squared_wasserstein2
from .modules import AnswerMetric, GeometryMetric, RetrievalMetric
from .neighbours import nearest_neighbours
from .retrieval import Ranking, foscttm, pairs_from_groups, rank_matches, recall_at_k, retrieval
from .similarity import linear_cka, mutual_knn, procrustes_error
from .wups import noun_similarity, wups


__all__ = [
    "AnswerMetric",
    "GeometryMetric",
    "Ranking",
    "RetrievalMetric",
    "debiased_sinkhorn",
    "foscttm",
    "linear_cka",
    "modality_gap",
    "mutual_knn",
    "nearest_neighbours",
    "noun_similarity",
    "pairs_from_groups",
    "procrustes_error",
    "rank_matches",
    "recall_at_k",
    "retrieval",
    "squared_wasserstein2",
    "wups",
]
