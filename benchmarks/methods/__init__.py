"""What the merge is compared with: one table of methods, each a function `(task, recipe) -> Fitted`.

Reading the table imports nothing; a method's module is imported when [`get_method`] asks for it. So the memory of a
process that runs one method has no other method in it.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .stages import MethodFunction


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        where: `module:function` inside this package.
        about: What it is, in a line.
        expensive: Whether it runs encoders on raw inputs while training: minutes where the others take seconds.
    """

    where: str
    about: str
    expensive: bool = False


#: By name, in the order of the report. The name is a setting of every finished cell: it stays.
METHODS = {
    "most_frequent": Method("controls:most_frequent", "no model: the most frequent labelled answer to each wording"),
    "question_only": Method("controls:question_only", "the fuser without the image: every question about one context"),
    "context_only": Method("controls:context_only", "the fuser without the question: every image asked one question"),
    "zero_shot_concat": Method("controls:zero_shot_concat", "mean features side by side; only the answer head learns"),
    "zero_shot_average": Method("controls:zero_shot_average", "mean features averaged; only the answer head learns"),
    "no_alignment": Method("controls:no_alignment", "the control: the same fuser without the alignment stage"),
    "self_training": Method(
        "statements:self_training", "control of statement_teacher: pseudo-labels by the unaligned fuser itself"
    ),
    "linear": Method("trained_terms:linear", "aligned by pairs, with one linear map a side as adapters"),
    "paired": Method("trained_terms:paired", "aligned by pairs alone: squared distance and the variance floor"),
    "sinkhorn": Method("trained_terms:sinkhorn", "aligned by transport alone, on unpaired rows"),
    "mmd": Method("trained_terms:mmd", "aligned by maximum mean discrepancy, on unpaired rows"),
    "prototype": Method("trained_terms:prototype", "aligned by transport between prototypes, on unpaired rows"),
    "contrastive": Method("trained_terms:contrastive", "aligned by InfoNCE on pairs"),
    "statement_scoring": Method(
        "statements:statement_scoring", "no labels: InfoNCE on pairs, then the answer whose statement is nearest"
    ),
    "statement_transport": Method(
        "statements:statement_transport", "statement_scoring with the Sinkhorn divergence of unpaired rows"
    ),
    "statement_teacher": Method(
        "statements:statement_teacher",
        "the nearest statement makes pseudo-labels; the fuser learns them and the labels",
    ),
    "procrustes": Method("closed_forms:procrustes", "aligned by orthogonal Procrustes on pairs, in closed form"),
    "cca": Method("closed_forms:cca", "aligned by regularised canonical correlation on pairs, in closed form"),
    "merged": Method("trained_terms:merged", "the merge: aligned by pairs, transport and the variance floor"),
    "frozen_fuser": Method(
        "trained_terms:frozen_fuser", "the merge with a random frozen fuser; the head alone learns"
    ),
    "grown": Method(
        "grown:grown", "aligned; a linear path of words and geometry, then the fuser where validation gains"
    ),
    "grown_transport": Method("grown:grown_transport", "grown, with a transport plan as the fuser's attention"),
    "grown_everything": Method("grown:grown_everything", "grown, with every geometry on the linear path"),
    "matched": Method("matching:matched", "grown, from a fuser that first learned to match captions"),
    "matched_frozen": Method(
        "matching:matched_frozen", "a linear path of words, cosine and a held fuser that learned to match captions"
    ),
    "matched_kept": Method(
        "matching:matched_kept", "matched_frozen, its matching logit let in without asking validation"
    ),
    "grown_unaligned": Method("grown:grown_unaligned", "the control of grown: the same head, nothing aligned"),
    "grown_words": Method("grown:grown_words", "grown_unaligned without the image: one context for every question"),
    "words_linear": Method("grown:words_linear", "logistic regression on the question's mean feature"),
    "frozen_attention": Method("grown:frozen_attention", "aligned and frozen; cross-attention and the head learn"),
    "frozen_transport": Method(
        "grown:frozen_transport", "aligned and frozen; a plan's temperature and the head learn"
    ),
    "weight_average": Method("weight_averaging:weight_average", "negative control: the encoders' weights averaged"),
    "fisher": Method("weight_averaging:fisher_average", "negative control: averaged by Fisher information"),
    "regmean": Method("weight_averaging:regmean_average", "negative control: linear layers merged by RegMean"),
    "lora": Method("whole_encoders:lora", "low-rank updates of both encoders, on raw inputs", expensive=True),
    "joint": Method("whole_encoders:joint", "the ceiling: both encoders train, in training mode", expensive=True),
    "joint_still": Method(
        "whole_encoders:joint_still", "the ceiling without dropout and with fixed batch statistics", expensive=True
    ),
}


def check_method(name: str) -> None:
    """Refuse a name that is not in the table.

    Raises:
        ValueError: With the names that are.
    """
    if name not in METHODS:
        raise ValueError(f"`method` is {name!r}; expected one of {', '.join(METHODS)}.")


def get_method(name: str) -> "MethodFunction":
    """Import a method's function.

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> get_method("joint").__name__
        'joint'
    """
    check_method(name)
    module, function = METHODS[name].where.split(":")
    found: MethodFunction = getattr(import_module(f"{__name__}.{module}"), function)
    return found
