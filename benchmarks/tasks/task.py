"""What every method is given: encoders, cached features, labelled questions, pairs and unpaired rows."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, set_seed

from otmerge_hf.data.raw_collator import RawCollator
from otmerge_hf.features import FeatureCollator, FeatureStore
from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering
from otmerge_hf.model.processing_otmerge import OTMergeProcessor

from ..runner.recipe import Recipe


class NotApplicable(ValueError):
    """A method that cannot be run on this task; the message says why."""


class Rows(Dataset):
    """Rows that name contexts and queries by number, and their labels if they have any.

    Plain lists: Trainer's loader asks for a whole batch at once, and nothing is decoded.

    Args:
        context: Numbers of the contexts, (N,).
        query: Numbers of the queries, (N,).
        labels: Answers, (N,), or None.
        groups: Rows of one number are no negatives of each other, (N,), or None.

    Raises:
        ValueError: If the columns differ in length.

    Example:
        >>> Rows([0, 1], [5, 6], [2, 0])[1]
        {'context_features': 1, 'query_features': 6, 'labels': 0}
    """

    def __init__(
        self,
        context: Sequence[int],
        query: Sequence[int],
        labels: Sequence[int] | None = None,
        groups: Sequence[int] | None = None,
    ) -> None:
        columns = {"context_features": context, "query_features": query, "labels": labels, "group_ids": groups}
        self.columns = {name: list(column) for name, column in columns.items() if column is not None}
        if len({len(column) for column in self.columns.values()}) != 1:
            raise ValueError(f"The columns have {[len(c) for c in self.columns.values()]} rows; expected one number.")

    def __len__(self) -> int:
        return len(self.columns["context_features"])

    def __getitem__(self, row: int) -> dict[str, int]:
        return {name: column[row] for name, column in self.columns.items()}

    def __getitems__(self, rows: list[int]) -> list[dict[str, int]]:
        return [self[row] for row in rows]

    def with_columns(self, **columns: Sequence[int]) -> "Rows":
        """Copy with some columns replaced."""
        now = self.columns | {name: list(column) for name, column in columns.items()}
        return Rows(now["context_features"], now["query_features"], now.get("labels"), now.get("group_ids"))

    def concatenate(self, other: "Rows") -> "Rows":
        """These rows, then the other's; both have the same columns."""
        columns = {name: [*column, *other.columns[name]] for name, column in self.columns.items()}
        return Rows(columns["context_features"], columns["query_features"], columns.get("labels"))

    def labels(self) -> torch.Tensor:
        """Answers, (N,) long."""
        return torch.tensor(self.columns["labels"])


@dataclass
class Task:
    """One question-answering task with frozen-encoder features at hand.

    Attributes:
        context_encoder: Name, folder or instance of the encoder that is looked at.
        query_encoder: The same of the encoder that asks.
        processor: Makes the encoders' inputs; None: that of both folders, read when it is needed.
        answers: Names of the answers.
        contexts: Raw contexts (paths of images, or PIL images); rows name them by number.
        queries: Texts: questions and statements.
        context_store: Features of `contexts`.
        query_store: Features of `queries`.
        train: Labelled questions.
        test: Questions that no method learns from; label -100 where the answer is none of `answers`.
        pairs: Statements beside the contexts they are true of; no labels.
        unpaired_contexts: Contexts offered without a statement.
        unpaired_queries: Texts offered without a context.
        statistics: Per side, mean and deviation (D_side,) of the training features: the same for every method.
        scratch: Folder for what does not last.
        unlabelled: Questions without their answers; None where all are labelled.
        candidates: Per question (its number among `queries`), the statement that each answer would make of it.
        validation: Labelled questions to choose by, about contexts of their own; None where the task has none.
        references: The answers as the data set writes them, row by row of `validation` and `test`; by those names.
        report_progress: Called with the share of the work that is done, in [0, 1].
        checkpoints: Where long trainings resume after an interruption; None: they start from the beginning.
    """

    context_encoder: str | PreTrainedModel
    query_encoder: str | PreTrainedModel
    processor: OTMergeProcessor | None
    answers: list[str]
    contexts: Sequence[Any]
    queries: Sequence[str]
    context_store: FeatureStore
    query_store: FeatureStore
    train: Rows
    test: Rows
    pairs: Rows
    unpaired_contexts: list[int]
    unpaired_queries: list[int]
    statistics: dict[str, tuple[torch.Tensor, torch.Tensor]]
    scratch: Path
    unlabelled: Rows | None = None
    candidates: dict[int, dict[int, int]] = field(default_factory=dict)
    validation: Rows | None = None
    references: dict[str, list[str]] = field(default_factory=dict)
    report_progress: Callable[[float], None] = field(default=lambda share: None)
    checkpoints: Path | None = None

    def build(self, recipe: Recipe, **choices: Any) -> OTMergeForQuestionAnswering:
        """Merge with untrained adapters, fuser and head: equal choices and seeds give equal weights.

        Args:
            recipe: Sizes and kinds.
            **choices: Fields of `OTMergeConfig` that override it.
        """
        set_seed(recipe.seed)
        names = dict(enumerate(self.answers))
        options: dict[str, Any] = {
            "context_tokens": recipe.context_tokens,
            "query_tokens": recipe.query_tokens,
            # known from the features: measuring would run the encoders, whose weights need not be in memory
            "context_feature_dim": self.context_store.feature_dim,
            "query_feature_dim": self.query_store.feature_dim,
            "adapter_type": recipe.adapter_type,
            "fuser_type": recipe.fuser_type,
            "shared_dim": recipe.shared_dim,
            "fuser_num_layers": recipe.fuser_num_layers,
            "fuser_dropout": recipe.fuser_dropout,
            "linear_path": [],  # the methods of `grown` have one
            "reconstruction": recipe.reconstruction_weight > 0,
            "id2label": names,
            "label2id": {name: i for i, name in names.items()},
        }
        # copies of instances: one method's training must not reach the next
        encoders = (
            copy.deepcopy(source) if isinstance(source, PreTrainedModel) else source
            for source in (self.context_encoder, self.query_encoder)
        )
        model = OTMergeForQuestionAnswering.from_encoders_pretrained(*encoders, **options | choices)
        model.otmerge.fit_standardization(**self.statistics)
        # once more, so that the order of the rows does not depend on how many weights were drawn
        set_seed(recipe.seed)
        return model

    def require_unlabelled(self) -> Rows:
        """Unlabelled questions.

        Raises:
            NotApplicable: If every question is labelled.
        """
        if self.unlabelled is None:
            raise NotApplicable("Every question is labelled: nothing is left to pseudo-label")
        return self.unlabelled

    def cached_collator(self) -> FeatureCollator:
        """Collator of cached features."""
        return FeatureCollator(self.context_store, self.query_store)

    def raw_collator(self, share_contexts: bool = False) -> RawCollator:
        """Collator of raw inputs, for encoders that train."""
        return RawCollator(self.contexts, self.queries, self.require_processor(), share_contexts=share_contexts)

    def require_processor(self) -> OTMergeProcessor:
        """The processor, read now if it was not.

        Raises:
            ValueError: If there is none and the encoders are instances, which have no folder to read it from.
        """
        if self.processor is None:  # 10 MiB that methods on cached features do without
            if not (isinstance(self.context_encoder, str) and isinstance(self.query_encoder, str)):
                raise ValueError("`processor` is None; expected one, for the encoders are instances.")
            self.processor = OTMergeProcessor.from_encoders_pretrained(self.context_encoder, self.query_encoder)
        return self.processor
