"""Measures of retrieval, of geometry and of answers: pure functions, and `evaluate.Metric` classes over them."""

from .geometry import debiased_sinkhorn, modality_gap, squared_wasserstein2
from .modules import AnswerMetric, GeometryMetric, RetrievalMetric, VQAAccuracy
from .neighbours import nearest_neighbours
from .retrieval import Ranking, foscttm, pairs_from_groups, rank_matches, recall_at_k, retrieval
from .similarity import linear_cka, mutual_knn, procrustes_error
from .vqa_accuracy import normalize_answer, soft_scores, vqa_accuracy, vqa_scores
from .wups import noun_similarity, wups


__all__ = [
    "AnswerMetric",
    "GeometryMetric",
    "Ranking",
    "RetrievalMetric",
    "VQAAccuracy",
    "debiased_sinkhorn",
    "foscttm",
    "linear_cka",
    "modality_gap",
    "mutual_knn",
    "nearest_neighbours",
    "normalize_answer",
    "noun_similarity",
    "pairs_from_groups",
    "procrustes_error",
    "rank_matches",
    "recall_at_k",
    "retrieval",
    "soft_scores",
    "squared_wasserstein2",
    "vqa_accuracy",
    "vqa_scores",
    "wups",
]
