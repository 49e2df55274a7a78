"""The pure functions as `evaluate.Metric` classes: batches of embeddings or answers in, a dictionary out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate
import torch

from .geometry import debiased_sinkhorn, modality_gap, squared_wasserstein2
from .retrieval import foscttm, pairs_from_groups, retrieval
from .similarity import linear_cka, mutual_knn, procrustes_error
from .vqa_accuracy import vqa_accuracy
from .wups import WORDNET, noun_similarity, wups


_INPUTS = """
Args:
    predictions: context embeddings, one list of floats a row.
    references: query embeddings, one list of floats a row; row i belongs to row i of `predictions`.
"""
_CONFIGS = ("default", "grouped")
_VECTOR = datasets.Sequence(datasets.Value("float32"))
_TEXT = datasets.Value("string")


def _info(description: str, inputs: str, row: Any = _VECTOR, **columns: Any) -> evaluate.MetricInfo:
    features = datasets.Features({"predictions": row, "references": row} | columns)
    return evaluate.MetricInfo(description=description, citation="", inputs_description=inputs, features=features)


class RetrievalMetric(evaluate.Metric):
    """Recall@k, mAP, median rank in both directions, and FOSCTTM, over embeddings added in batches.

    `RetrievalMetric()` pairs row i with row i. `RetrievalMetric("grouped")` takes a third column `groups`: rows of one
    group are captions of one item, whose context embedding (its first row) is counted once. `compute` takes `ks`
    (depths of recall) and `similarity` (`"cosine"` or `"euclidean"`).

    Example:
        >>> metric = RetrievalMetric(keep_in_memory=True)
        >>> metric.add_batch(predictions=torch.eye(2), references=torch.eye(2))
        >>> metric.compute()["mean_recall@1"]
        1.0
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _CONFIGS:
            raise ValueError(f"config_name must be one of {_CONFIGS}, got {self.config_name!r}")
        about = "Retrieval between two sides of a shared space."
        if self.config_name == "default":
            return _info(about, _INPUTS)
        inputs = _INPUTS + "    groups: integer id of the item of each row.\n"
        return _info(about, inputs, groups=datasets.Value("int64"))

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[Sequence[float]],
        groups: Sequence[int] | None = None,
        ks: Sequence[int] = (1, 5, 10),
        similarity: Any = "cosine",
    ) -> dict[str, float]:
        context, query = torch.tensor(predictions), torch.tensor(references)
        pairs = None
        if groups is not None:
            ids = torch.tensor(groups)
            first = {int(group): row for row, group in reversed(list(enumerate(groups)))}
            rows = torch.tensor(sorted(first.values()))
            pairs, context = pairs_from_groups(ids[rows], ids), context[rows]
        result = retrieval(context, query, pairs, ks=ks, similarity=similarity)
        result["foscttm"] = foscttm(context, query, pairs, similarity=similarity)
        return result


class GeometryMetric(evaluate.Metric):
    """Modality gap, CKA, mutual k-NN, Procrustes error, Sinkhorn divergence, exact W2 squared, over paired rows.

    `compute` takes `k` (neighbours, default 10, lowered to rows - 1) and `wasserstein` (default True;
    exact transport grows about cubically with the rows, so switch it off above a few thousand).

    Example:
        >>> metric = GeometryMetric(keep_in_memory=True)
        >>> metric.add_batch(predictions=torch.eye(3), references=torch.eye(3))
        >>> metric.compute()["modality_gap"]
        0.0
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info("Geometry of two sides of a shared space.", _INPUTS)

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[Sequence[float]],
        k: int = 10,
        wasserstein: bool = True,
    ) -> dict[str, float]:
        context, query = torch.tensor(predictions), torch.tensor(references)
        result = {
            "modality_gap": modality_gap(context, query),
            "linear_cka": linear_cka(context, query),
            "mutual_knn": mutual_knn(context, query, min(k, len(context) - 1)),
            "procrustes_error": procrustes_error(context, query),
            "sinkhorn_divergence": debiased_sinkhorn(context, query),
        }
        return result | ({"squared_wasserstein2": squared_wasserstein2(context, query)} if wasserstein else {})


class AnswerMetric(evaluate.Metric):
    """Accuracy, and WUPS at thresholds, of answers in words; an answer that is a list has commas, in any order.

    `compute` takes `thresholds` (default 0.9 and 0.0) and `wordnet` (folder of WordNet's files).

    Example:
        >>> metric = AnswerMetric(keep_in_memory=True)
        >>> metric.compute(predictions=["chair", "lamp, book"], references=["table", "book, lamp"], thresholds=())
        {'accuracy': 0.5}
    """

    def _info(self) -> evaluate.MetricInfo:
        inputs = "Args:\n    predictions: answers.\n    references: the true answers.\n"
        return _info("Accuracy and WUPS of answers in words.", inputs, row=_TEXT)

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        thresholds: Sequence[float] = (0.9, 0.0),
        wordnet: str | Path = WORDNET,
    ) -> dict[str, float]:
        result = {"accuracy": wups(predictions, references, 1.0, similarity=lambda word, other: 0.0)}
        for threshold in thresholds:
            result[f"wups@{threshold}"] = wups(predictions, references, threshold, noun_similarity(wordnet))
        return result


class VQAAccuracy(evaluate.Metric):
    """Official accuracy of visual question answering, [`vqa_accuracy`], over answers added in batches.

    `compute` takes `answer_types` and `question_types`, one name a row, for the accuracy of each.

    Example:
        >>> metric = VQAAccuracy(keep_in_memory=True)
        >>> metric.add_batch(predictions=["Yes"], references=[["yes"] * 9 + ["no"]])
        >>> metric.compute(answer_types=["yes/no"])
        {'accuracy': 1.0, 'per_answer_type': {'yes/no': 1.0}}

    Source: Antol et al. 2015 (ICCV); Goyal et al. 2017 (CVPR).
    """

    def _info(self) -> evaluate.MetricInfo:
        inputs = "Args:\n    predictions: answers.\n    references: for each, what people said, ten in VQA v2.\n"
        about = "Accuracy of visual question answering against ten people's answers."
        return _info(about, inputs, row=_TEXT, references=datasets.Sequence(_TEXT))

    def _compute(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], **types: Sequence[str]
    ) -> dict[str, Any]:
        # a slice, because evaluate hands over lazy columns that are read row by row
        return vqa_accuracy(predictions[:], references[:], **types)
