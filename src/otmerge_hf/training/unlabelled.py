"""Questions that nobody answered -> rows with pseudo-labels, to be learnt from with the others."""

import logging
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from torch import nn

from ..data.encoded import EncodedQuestions
from ..data.questions import Questions
from ..model.processing_otmerge import OTMergeProcessor
from .pseudo_labels import REFUSED, make_pseudo_labels


logger = logging.getLogger(__name__)


def answer_unlabelled(
    model: nn.Module,
    processor: OTMergeProcessor,
    rows: EncodedQuestions,
    asked: Questions,
    answers: Sequence[str],
    encoding: dict[str, Any],
) -> Dataset:
    """Rows of unlabelled questions, the first of `rows.more`, pseudo-labelled; without those that make no statement.

    Args:
        model, processor, answers: As in [`make_pseudo_labels`].
        rows: From [`encode_questions`].
        asked: The questions.
        encoding: `cache_dir` and `batch_size` for the statements.
    """
    given = rows.more[0]
    texts, contexts = [asked.texts[row] for row in asked.text_rows], given["context_features"][:]
    made = make_pseudo_labels(model, processor, rows.context_store, texts, contexts, answers, **encoding)
    labels = made.labels.tolist()
    if made.refused:
        why = "; ".join(f"{reason} ({count:,})" for reason, count in list(made.refused.items())[:3])
        logger.info("%d of %d unlabelled rows make no statement: %s", labels.count(REFUSED), len(labels), why)
    kept = [row for row, label in enumerate(labels) if label != REFUSED]
    answered = given.remove_columns("labels").add_column("labels", labels)
    return answered.select(kept).cast(rows.train.features)
