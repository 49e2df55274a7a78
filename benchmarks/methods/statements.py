"""Statements in the place of answers: scored, or turned into pseudo-labels that the fuser learns."""

from collections.abc import Sequence

from otmerge_hf.training import ContrastiveLossCallback, LossTermCallback, SinkhornLossCallback

from ..runner.recipe import Recipe
from ..tasks.task import Task
from .controls import no_alignment
from .nearest_statement import answer_by_statement
from .predict import predict
from .stages import Fitted, align, learn_answers


def statement_scoring(task: Task, recipe: Recipe) -> Fitted:
    """InfoNCE on pairs aligns both sides; question and answer become a statement, and cosine decides. No labels.

    Half of the yes-or-no answers are negative statements, so align with `negative_statements=True`.

    Source: Song et al. 2022 ("CLIP Models are Few-shot Learners", ACL), which turns questions into statements so.
    """
    return _align_and_score(task, recipe, [ContrastiveLossCallback(1.0)])


def statement_transport(task: Task, recipe: Recipe) -> Fitted:
    """As `statement_scoring`, with the Sinkhorn divergence of all rows, unpaired ones too, beside InfoNCE on pairs."""
    transport = SinkhornLossCallback(recipe.sinkhorn_weight, epsilon=recipe.epsilon)
    return _align_and_score(task, recipe, [ContrastiveLossCallback(1.0), transport])


def statement_teacher(task: Task, recipe: Recipe) -> Fitted:
    """Align by InfoNCE; let the nearest statement answer the unlabelled questions; learn those and the labels.

    What comes out is an ordinary merge: no statement is needed to ask it.

    Source: pseudo-labels (Lee 2013) whose teacher is the zero-shot use of the aligned encoders.
    """
    unlabelled = task.require_unlabelled()
    fitted = align(task, task.build(recipe), recipe, [ContrastiveLossCallback(1.0)], paired=True)
    assert fitted.model is not None
    answers = answer_by_statement(task, fitted.model.otmerge, unlabelled)
    pseudo_labelled = unlabelled.with_columns(labels=answers.tolist())
    return learn_answers(task, fitted, recipe, recipe.fuse_stage, pseudo_labelled=pseudo_labelled)


def self_training(task: Task, recipe: Recipe) -> Fitted:
    """The control of `statement_teacher`: the same unlabelled questions, answered by the unaligned fuser itself.

    Teach the control the labels, let it answer the unlabelled questions, and begin anew with labels and answers.

    Source: self-training with pseudo-labels (Lee 2013).
    """
    unlabelled = task.require_unlabelled()
    teacher = no_alignment(task, recipe)
    assert teacher.model is not None
    answers = predict(teacher.model, unlabelled, task.cached_collator())
    student = Fitted(model=task.build(recipe), phases=teacher.phases)
    pseudo_labelled = unlabelled.with_columns(labels=answers.tolist())
    return learn_answers(task, student, recipe, "both", pseudo_labelled=pseudo_labelled)


def _align_and_score(task: Task, recipe: Recipe, terms: Sequence[LossTermCallback]) -> Fitted:
    fitted = align(task, task.build(recipe), recipe, terms, paired=True)
    assert fitted.model is not None
    fitted.predictions = answer_by_statement(task, fitted.model.otmerge, task.test)
    return fitted
