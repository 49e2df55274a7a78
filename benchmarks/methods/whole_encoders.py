"""Encoders that train: joint fine-tuning, the ceiling, and LoRA; on raw inputs, with everything else."""

from typing import Any

from torch import nn, optim

from otmerge_hf.training import set_stage, train_answers
from otmerge_hf.training.lora import add_lora

from ..runner.recipe import Recipe
from ..tasks.task import Task
from .stages import Accounting, Fitted


def joint(task: Task, recipe: Recipe) -> Fitted:
    """Train everything from labels, in training mode; the encoders at their own learning rate."""
    return _train_jointly(task, recipe, still=False)


def joint_still(task: Task, recipe: Recipe) -> Fitted:
    """As `joint`, but the encoders stay in evaluation mode, as they are for every method that freezes them."""
    return _train_jointly(task, recipe, still=True)


def lora(task: Task, recipe: Recipe) -> Fitted:
    """Put LoRA into the encoders and learn the answers; the encoders' own weights and statistics stay."""
    model = task.build(recipe)
    set_stage(model, "both")
    added = add_lora(model, recipe.lora_rank)
    inside = {id(parameter) for parameter in added}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    groups = [{"params": added, "lr": recipe.encoder_learning_rate}, {"params": rest, "lr": recipe.learning_rate}]
    return _learn_on_raw_inputs(task, recipe, "lora", model, groups)


def _train_jointly(task: Task, recipe: Recipe, still: bool) -> Fitted:
    model = task.build(recipe, freeze_encoders=False)
    encoders = [getattr(model.otmerge, f"{side}_encoder") for side in ("context", "query")]
    inside = {id(parameter) for encoder in encoders for parameter in encoder.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in inside], "lr": recipe.encoder_learning_rate},
        {"params": [p for p in model.parameters() if id(p) not in inside], "lr": recipe.learning_rate},
    ]
    if still:
        for encoder in encoders:
            encoder.register_forward_pre_hook(_set_evaluation_mode)
    # no alignment term is used: the temperature gets no gradient, and AdamW leaves it alone
    return _learn_on_raw_inputs(task, recipe, "joint", model, groups)


def _learn_on_raw_inputs(task: Task, recipe: Recipe, name: str, model: Any, groups: list[dict[str, Any]]) -> Fitted:
    """Train what is set to learn, with a checkpoint every tenth where the task has a place for them.

    Validation rows are learned from too: nothing is chosen by them here, and `grown` ends with learning from them.
    """
    rows = task.train if task.validation is None else task.train.concatenate(task.validation)
    steps = recipe.steps(len(rows), recipe.epochs)
    account = Accounting(task, recipe, name, steps, long=True)
    optimizer = optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    train_answers(
        model,
        rows,
        task.raw_collator(),
        account.arguments,
        stage=None,
        callbacks=account.callbacks,
        optimizers=(optimizer, None),
        resume_from_checkpoint=account.last_checkpoint,
        questions_per_context=recipe.questions_per_context,
    )
    return Fitted(model=model, phases=[account.phase(len(rows))], labels=len(rows), encoders_changed=True)


def _set_evaluation_mode(encoder: nn.Module, _: object) -> None:
    encoder.eval()  # before each forward: Trainer puts everything into training mode at each step
