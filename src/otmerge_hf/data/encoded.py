"""Questions about images -> rows that name cached features, and the collator that looks them up."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..features import FeatureCollator, FeatureStore, encode
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .answers import Answers
from .distinct import index_distinct
from .image_inputs import Chained
from .questions import Questions, QuestionSplits


PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class EncodedQuestions:
    """What [`encode_questions`] returns: rows for the stock Trainer.

    Attributes:
        train, validation, test: Rows with `context_features`, `query_features` (places in the stores; of several
            images a list) and `labels`.
        collator: Turns rows into the model's inputs.
        context_store: Features of the distinct images of all parts.
        query_store: Features of the distinct texts.
        texts: Those texts.
        more: Rows of further questions.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    collator: FeatureCollator
    context_store: FeatureStore
    query_store: FeatureStore
    texts: list[str]
    more: list[Dataset] = field(default_factory=list)


def encode_questions(
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    splits: QuestionSplits,
    *,
    cache_dir: str | os.PathLike,
    more: Sequence[Questions] = (),
    **options: Any,
) -> EncodedQuestions:
    """Run both frozen encoders once over what is distinct, and standardise the features.

    The features' mean and spread are taken from the training part; a model that has them already (it was aligned, or
    loaded) keeps them: its adapters were learnt with them.

    Args:
        model: The merge; `its answers must be `splits.answers`.
        processor: Its processor.
        splits: From [`load_questions`].
        cache_dir: Folder where features are kept; what is there is not computed again.
        more: Further questions, such as those that nobody answered.
        **options: `batch_size`, `dtype`, `progress` of [`features.encode`].

    Raises:
        ValueError: If the model's answers are others, or an input cannot be opened.
    """
    names = Answers.of_config(model.config).names
    if names != splits.answers.names:
        raise ValueError(
            f"`model` has {len(names)} answers ({', '.join(names[:3])}, ...) and `splits` {len(splits.answers.names)} "
            f"({', '.join(splits.answers.names[:3])}, ...); build it with `**splits.answers.config`."
        )
    parts: list[Questions] = [*(getattr(splits, name) for name in PARTS), *more]
    images = Chained([part.images for part in parts])
    texts, _ = index_distinct(text for part in parts for text in part.texts)
    context_store = encode(model, processor, "context", images, cache_dir=cache_dir, **options)
    query_store = encode(model, processor, "query", texts, cache_dir=cache_dir, **options)
    train, validation, test, *others = [
        question_rows(part, splits.answers, texts, start) for part, start in zip(parts, images.starts, strict=False)
    ]
    if not is_standardised(model):
        seen = {place for row in train["context_features"] for place in (row if isinstance(row, list) else [row])}
        model.otmerge.fit_standardization(
            context=context_store.statistics(sorted(seen)),
            query=query_store.statistics(sorted(set(train["query_features"]))),
        )
    collator = FeatureCollator(context_store, query_store, num_labels=len(names))
    return EncodedQuestions(train, validation, test, collator, context_store, query_store, texts, others)


def question_rows(part: Questions, answers: Answers | None, texts: Sequence[str], first_image: int = 0) -> Dataset:
    """Rows of one part: places of its images, counted from `first_image`, and of its texts in `texts`; and labels."""
    place = {text: number for number, text in enumerate(texts)}
    columns: dict[str, list[Any]] = {
        "context_features": [
            first_image + row if isinstance(row, int) else [first_image + place for place in row]
            for row in part.image_rows
        ],
        "query_features": [place[part.texts[row]] for row in part.text_rows],
    }
    if answers is not None:
        columns["labels"] = answers.labels(part.answers)
    return Dataset.from_dict(columns)


def is_standardised(model: OTMergeForQuestionAnswering) -> bool:
    """Whether the features' statistics were fitted, or are not used."""
    if not model.config.standardize:
        return True
    sides: list[Any] = [model.otmerge.context_standardizer, model.otmerge.query_standardizer]
    return any(side.is_fitted for side in sides)
