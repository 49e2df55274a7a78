"""A trained merge and a table of questions in, its answers out: every image and every text is encoded once."""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..data.answers import Answers, Targets
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
    answers = answers_of_model(model, ())
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
    rows = question_rows(questions, answers_of_model(model, ()), questions.texts).remove_columns("labels")
    return answer_logits(model, rows, collator, batch_size or 64)


def answers_of_model(
    model: OTMergeForQuestionAnswering, rows: Sequence[tuple[str, ...]], targets: Targets | None = None
) -> Answers:
    """The answers that a merge was taught, spelled as it was; `targets` found from the rows when None."""
    names = [name for _, name in sorted((int(place), name) for place, name in (model.config.id2label or {}).items())]
    spelled = Answers(names, normalize=True)
    normalize = all(spelled.spell(name) == name for name in names)
    if targets is None:
        soft, few = model.config.problem_type == "multi_label_classification", [len(row) for row in rows if row]
        targets = "votes" if few and min(few) >= 4 else "labels" if soft else "single"
    return Answers(names, targets, normalize)
