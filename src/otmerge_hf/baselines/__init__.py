"""What the merge is compared with: one method a file, each `fit(task, recipe) -> Fitted`, all runnable by name."""

from . import (
    cca,
    context_only,
    contrastive,
    fisher,
    frozen_fuser,
    joint,
    joint_still,
    linear,
    lora,
    merged,
    mmd,
    most_frequent,
    no_alignment,
    paired,
    procrustes,
    prototype,
    question_only,
    regmean,
    self_training,
    sinkhorn,
    statement_scoring,
    statement_teacher,
    statement_transport,
    weight_average,
    zero_shot_average,
    zero_shot_concat,
)
from .fitting import Fitted, Method, Phase
from .flops import FlopCounter
from .predicting import predict
from .recipe import Recipe
from .task import RawCollator, Refused, Rows, Task


METHODS: dict[str, Method] = {
    module.__name__.rsplit(".", 1)[-1]: module.fit
    for module in (
        most_frequent,
        question_only,
        context_only,
        zero_shot_concat,
        zero_shot_average,
        no_alignment,
        self_training,
        linear,
        paired,
        sinkhorn,
        mmd,
        prototype,
        contrastive,
        statement_scoring,
        statement_transport,
        statement_teacher,
        procrustes,
        cca,
        merged,
        frozen_fuser,
        weight_average,
        fisher,
        regmean,
        lora,
        joint,
        joint_still,
    )
}
# These train or run encoders on raw inputs: minutes where the others take seconds.
EXPENSIVE = ("lora", "joint", "joint_still")


def get_method(name: str) -> Method:
    """Look a method up by name.

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> get_method("joint").__module__
        'otmerge_hf.baselines.joint'
    """
    if name not in METHODS:
        raise ValueError(f"`method` is {name!r}; expected one of {', '.join(METHODS)}.")
    return METHODS[name]


__all__ = [
    "EXPENSIVE",
    "METHODS",
    "Fitted",
    "FlopCounter",
    "Method",
    "Phase",
    "RawCollator",
    "Recipe",
    "Refused",
    "Rows",
    "Task",
    "get_method",
    "predict",
]
