"""What the merge is compared with: one method a file, each `fit(task, recipe) -> Fitted`, all runnable by name.

Modules are read when a name of theirs is asked for: who only encodes does without Trainer and what it imports.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ..lazy import lazy_names


if TYPE_CHECKING:
    from .fitting import Fitted, Method, Phase
    from .flops import FlopCounter
    from .predicting import predict
    from .recipe import Recipe
    from .task import RawCollator, Refused, Rows, Task
else:  # not for type checkers, to which a package with `__getattr__` has every name
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "fitting": ["Fitted", "Method", "Phase"],
            "flops": ["FlopCounter"],
            "task": ["RawCollator", "Refused", "Rows", "Task"],
            "recipe": ["Recipe"],
            "predicting": ["predict"],
        },
    )


#: Names of the methods, each that of its module, in the order of the report.
METHODS = (
    "most_frequent",
    "question_only",
    "context_only",
    "zero_shot_concat",
    "zero_shot_average",
    "no_alignment",
    "self_training",
    "linear",
    "paired",
    "sinkhorn",
    "mmd",
    "prototype",
    "contrastive",
    "statement_scoring",
    "statement_transport",
    "statement_teacher",
    "procrustes",
    "cca",
    "merged",
    "frozen_fuser",
    "weight_average",
    "fisher",
    "regmean",
    "lora",
    "joint",
    "joint_still",
)
# These train or run encoders on raw inputs: minutes where the others take seconds.
EXPENSIVE = ("lora", "joint", "joint_still")


def get_method(name: str) -> "Method":
    """Look a method up by name.

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> get_method("joint").__module__
        'otmerge_hf.baselines.joint'
    """
    if name not in METHODS:
        raise ValueError(f"`method` is {name!r}; expected one of {', '.join(METHODS)}.")
    method: Method = import_module(f"{__name__}.{name}").fit
    return method


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
