"""Measures of retrieval and of geometry: pure functions, and ``evaluate.Metric`` classes over them."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .geometry import debiased_sinkhorn, modality_gap, squared_wasserstein2
from .neighbours import nearest_neighbours
from .retrieval import (
    Ranking,
    foscttm,
    pairs_from_groups,
    rank_matches,
    recall_at_k,
    retrieval,
)
from .similarity import linear_cka, mutual_knn, procrustes_error


if TYPE_CHECKING:
    from .modules import GeometryMetric, RetrievalMetric
else:  # on demand: `evaluate` takes 25 MiB
    __getattr__, __dir__ = lazy_names(__name__, {"modules": ["GeometryMetric", "RetrievalMetric"]})


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
