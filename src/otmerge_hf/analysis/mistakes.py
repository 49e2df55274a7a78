"""Answers, or an evaluation's most confident mistakes, drawn: image, question, answer, truth, where it looked."""

import os
from collections.abc import Sequence

import torch

from ..data.answers import Answers
from ..data.questions import Questions
from ..model.images import open_image
from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from ..model.processing_otmerge import OTMergeProcessor
from .evaluation import Evaluation
from .gallery import save_gallery


def save_mistakes(
    path: str | os.PathLike,
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    questions: Questions,
    found: Evaluation,
    count: int = 12,
) -> list[str]:
    """Draw the mistakes as a PNG, and return where their rows were read.

    Args:
        path: The PNG file.
        model, processor: The merge that was evaluated.
        questions: What it was evaluated on.
        found: Its evaluation.
        count: Mistakes to draw, at most.

    Raises:
        ValueError: If there is no mistake, or rows are about several images.
        ImportError: If matplotlib is missing.
    """
    places = found.mistakes(count)
    if not places:
        raise ValueError("there is no mistake to draw")
    rows = [found.rows[place] for place in places]
    save_answers(path, model, processor, questions, rows, [found.said[place] for place in places])
    return [questions.where[row] if questions.where else f"row {row}" for row in rows]


def save_answers(
    path: str | os.PathLike,
    model: OTMergeForQuestionAnswering,
    processor: OTMergeProcessor,
    questions: Questions,
    rows: Sequence[int],
    said: Sequence[tuple[str, ...]] | None = None,
) -> None:
    """Draw some rows of questions as a PNG: image, question, answer, truth, and where the answer comes from.

    Args:
        path: The PNG file.
        model, processor: The merge, in `eval()`.
        questions: What it is asked.
        rows: Places in the questions.
        said: Its answers to them; None: it is asked.

    Raises:
        ValueError: If rows are about several images.
        ImportError: If matplotlib is missing.
    """
    if questions.several_images:
        raise ValueError("`questions` have several images a row; answers are drawn for one image a row")
    images = [open_image(image) for row in rows for image in questions.images_of(row)]
    texts = [questions.texts[questions.text_rows[row]] for row in rows]
    true = [", ".join(dict.fromkeys(questions.answers[row])) for row in rows]
    inputs = processor(images=images, text=texts, return_tensors="pt")
    if said is None:
        with torch.inference_mode():
            said = Answers.of_config(model.config).predictions(model(**inputs).logits)
    shown = [", ".join(answers) or "nothing" for answers in said]
    save_gallery(path, images, texts, shown, true, model=model, inputs=inputs)
