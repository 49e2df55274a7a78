"""The control of `statement_teacher`: the same unlabelled questions, answered by the unaligned fuser itself."""

from .fitting import Fitted, fuse
from .no_alignment import fit as fit_control
from .predicting import predict
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Teach the control the labels, let it answer the unlabelled questions, and begin anew with labels and answers.

    Source: self-training with pseudo-labels (Lee 2013).
    """
    unlabelled = task.need_unlabelled()
    teacher = fit_control(task, recipe)
    assert teacher.model is not None
    answers = predict(teacher.model, unlabelled, task.cached())
    student = Fitted(model=task.build(recipe), phases=teacher.phases)
    return fuse(task, student, recipe, "both", guessed=unlabelled.but(labels=answers.tolist()))
