"""Questions that nobody answered -> rows with pseudo-labels, to be learnt from with the others."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from torch import nn

from ..data.encoded import EncodedQuestions
from ..data.pair_splits import image_marks
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


def leave_out_unlabelled(asked: Questions, held_out: Sequence[Questions]) -> Questions:
    """Leave out questions about images that held-out parts ask about; a line says how many there were.

    Raises:
        ValueError: If none is left.
    """
    known = {mark for part in held_out for image in part.images for mark in image_marks(image)}
    gone = {place for place, image in enumerate(asked.images) if known & image_marks(image)}
    kept = [row for row in range(len(asked)) if not gone & set(asked.places_of(row))]
    if len(kept) < len(asked):
        logger.info("Left out %d unlabelled rows: validation or test ask about their images.", len(asked) - len(kept))
    if not kept:
        raise ValueError("`unlabelled` has no row about an image that neither validation nor test asks about")
    image_rows: Any = [asked.image_rows[row] for row in kept]
    return replace(
        asked,
        image_rows=image_rows,
        text_rows=[asked.text_rows[row] for row in kept],
        answers=[asked.answers[row] for row in kept],
        where=[asked.where[row] for row in kept] if asked.where else [],
        kinds={name: [column[row] for row in kept] for name, column in asked.kinds.items()},
    )
