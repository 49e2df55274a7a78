"""Alignment as a teacher: the fuser learns from answers that aligned statements gave, and from the few labels."""

from ..training import ContrastiveLossCallback
from .fitting import Fitted, align, fuse
from .recipe import Recipe
from .statement_scoring import nearest_statement
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Align by InfoNCE; let the nearest statement answer the unlabelled questions; teach those and the labels.

    What comes out is an ordinary merge: no statement is needed to ask it.

    Source: pseudo-labels (Lee 2013) whose teacher is the zero-shot use of the aligned encoders.
    """
    unlabelled = task.need_unlabelled()
    fitted = align(task, task.build(recipe), recipe, [ContrastiveLossCallback(1.0)], paired=True)
    assert fitted.model is not None
    answers = nearest_statement(task, fitted.model.otmerge, unlabelled)
    return fuse(task, fitted, recipe, recipe.fuse_stage, guessed=unlabelled.but(labels=answers.tolist()))
