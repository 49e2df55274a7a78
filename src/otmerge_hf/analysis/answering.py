"""A trained merge and a table of questions in, its answers out: every image and every text is encoded once."""

import os
import tempfile
from typing import Any

from torch import Tensor

from ..data.answers import Answers
from ..data.encoded import question_rows
from ..data.questions import Questions
from ..features import FeatureCollator, encode
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from ..training.measuring import answer_logits


def answer_questions(
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    questions: Questions,
    *,
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> list[tuple[tuple[str, ...], float]]:
    """Answer N questions: for each the answer given (or labels), and its probability (of labels: their mean).

    Args:
        model, processor: A trained merge.
        questions: From [`load_rows`] or a part of [`load_questions`].
        cache_dir: Folder where features are kept; None keeps none.
        **options: `batch_size`, `progress`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        logits = question_logits(model, processor, questions, cache_dir=cache_dir or scratch, **options)
    answers = Answers.of_config(model.config)
    said = answers.predictions(logits)
    return list(zip(said, answers.confidence(logits, said), strict=True))


def question_logits(
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    questions: Questions,
    *,
    cache_dir: str | os.PathLike,
    batch_size: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Logits (N, L) of N questions; encoders take as many inputs a forward as are fast, where `batch_size` is None."""
    options: dict[str, Any] = {"cache_dir": cache_dir, "batch_size": batch_size, "progress": progress}
    collator = FeatureCollator(
        encode(model, processor, "context", questions.images, **options),
        encode(model, processor, "query", questions.texts, **options),
    )
    rows = question_rows(questions, None, questions.texts)
    return answer_logits(model, rows, collator, batch_size or 64)
