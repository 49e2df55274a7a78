"""What is refused before a merge is trained, and how long it is trained: for the plan and for the work alike."""

from collections.abc import Mapping

from ..alignment.encoder_pair import EncoderPair
from ..data import PairSplit
from ..data.questions import Questions, QuestionSplits
from .lora import check_lora


# Without an alignment to carry through, a narrow space learnt better in a trial on easy-VQA.
UNALIGNED_WIDTH = 128
WIDTH = 8  # the width of the shared space is a multiple: heads and positions divide it


def check_asked(
    encoders: EncoderPair,
    questions: QuestionSplits,
    captions: Mapping[str, PairSplit] | None,
    unlabelled: Questions | None,
    lora: int | None,
    shared_dim: int | None,
    balanced: bool = False,
    questions_per_context: int = 1,
) -> None:
    """Refuse, with a ValueError, what [`train_merge`] cannot do with its arguments."""
    encoders.check_kind(questions.train.kind, "questions")
    for split in (captions or {}).values():
        encoders.check_kind(split.kind, "captions")
    if shared_dim is not None and shared_dim % WIDTH:
        raise ValueError(
            f"`shared_dim` is {shared_dim}; expected a multiple of {WIDTH}: heads and positions divide it"
        )
    if questions_per_context < 1:
        raise ValueError(f"`questions_per_context` is {questions_per_context}; expected a whole number above 0")
    if balanced and questions.answers.targets != "single":
        raise ValueError(f"`balanced` is for one answer a row; these are {questions.answers.targets}")
    if lora:
        check_lora(encoders.probe({}))
    if unlabelled is None:
        return
    if captions is None or questions.answers.targets != "single":
        raise ValueError("`unlabelled` needs `captions`, to align on, and questions with one answer each")
    if unlabelled.several_images or questions.train.several_images:
        raise ValueError("`unlabelled` is for questions about one image each; some have several images a row")


def planned_steps(rows: int, epochs: float, batch_size: int, least: int) -> int:
    """Optimiser steps of `epochs` passes over the rows; at least `least`.

    Example:
        >>> planned_steps(1000, epochs=2, batch_size=128, least=10)
        16
    """
    return max(round(epochs * rows / batch_size), least, 1)
