"""The most confident mistakes of an evaluation, drawn: image, question, answer, truth, and where it looked."""

import os

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
    if questions.several_images:
        raise ValueError("`questions` have several images a row; mistakes are drawn for one image a row")
    places = found.mistakes(count)
    if not places:
        raise ValueError("there is no mistake to draw")
    rows = [found.rows[place] for place in places]
    images = [open_image(image) for row in rows for image in questions.images_of(row)]
    texts = [questions.texts[questions.text_rows[row]] for row in rows]
    said = [", ".join(found.said[place]) or "nothing" for place in places]
    true = [", ".join(dict.fromkeys(questions.answers[row])) for row in rows]
    inputs = processor(images=images, text=texts, return_tensors="pt")
    save_gallery(path, images, texts, said, true, model=model, inputs=inputs)
    return [questions.where[row] if questions.where else f"row {row}" for row in rows]
