"""What a merge does and keeps: where an answer comes from, as heat over the image and a page; what adapters lose."""

from .answering import answer_questions
from .evaluation import Evaluation, evaluate_logits, evaluate_merge
from .explanations import EXPLANATIONS, word_plan
from .gallery import save_gallery
from .information import Information, gaussian_information, ksg_information
from .jacobian import JacobianSpectrum, jacobian_spectrum
from .layers import LayerSimilarity, layer_similarity
from .maps import attention_map
from .mistakes import save_answers, save_mistakes
from .neural_information import neural_information
from .reconstruction import ReconstructionErrors, cycle_error, reconstruction_errors, relative_error
from .report import write_report
from .report_words import NoPatchesError, WordHeat, word_heat


__all__ = [
    "EXPLANATIONS",
    "Evaluation",
    "Information",
    "JacobianSpectrum",
    "LayerSimilarity",
    "NoPatchesError",
    "ReconstructionErrors",
    "WordHeat",
    "answer_questions",
    "attention_map",
    "cycle_error",
    "evaluate_logits",
    "evaluate_merge",
    "gaussian_information",
    "jacobian_spectrum",
    "ksg_information",
    "layer_similarity",
    "neural_information",
    "reconstruction_errors",
    "relative_error",
    "save_answers",
    "save_gallery",
    "save_mistakes",
    "word_heat",
    "word_plan",
    "write_report",
]
