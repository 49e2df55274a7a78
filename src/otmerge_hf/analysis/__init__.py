"""What a merge does, made visible: where an answer comes from, as heat over the image, and a page of them."""

from .answering import answer_questions
from .evaluation import Evaluation, evaluate_logits, evaluate_merge
from .explanations import EXPLANATIONS
from .gallery import save_gallery
from .maps import attention_map
from .mistakes import save_answers, save_mistakes


__all__ = [
    "EXPLANATIONS",
    "Evaluation",
    "answer_questions",
    "attention_map",
    "evaluate_logits",
    "evaluate_merge",
    "save_answers",
    "save_gallery",
    "save_mistakes",
]
