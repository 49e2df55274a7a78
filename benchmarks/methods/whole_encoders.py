"""Encoders that train: joint fine-tuning, the ceiling, and LoRA; on raw inputs, with everything else."""

from typing import Any

from torch import nn, optim

from otmerge_hf.training import set_stage, train_answers

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
    from peft import LoraConfig, inject_adapter_in_model  # here: its 25 MiB are no other method's

    model = task.build(recipe)
    set_stage(model, "both")
    added = []
    for side in ("context", "query"):
        encoder = getattr(model.otmerge, f"{side}_encoder")
        config = LoraConfig(
            r=recipe.lora_rank, lora_alpha=2 * recipe.lora_rank, lora_dropout=0.0, target_modules=lora_targets(encoder)
        )
        inject_adapter_in_model(config, encoder)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if "lora_" in name:
                added.append(parameter)
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
    """Train what is set to learn, with a checkpoint every tenth where the task has a place for them."""
    steps = recipe.steps(len(task.train), recipe.epochs)
    account = Accounting(task, recipe, name, steps, long=True)
    optimizer = optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    train_answers(
        model,
        task.train,
        task.raw_collator(),
        account.arguments,
        stage=None,
        callbacks=account.callbacks,
        optimizers=(optimizer, None),
        resume_from_checkpoint=account.last_checkpoint,
    )
    phase = account.phase(len(task.train))
    return Fitted(model=model, phases=[phase], labels=len(task.train), encoders_changed=True)


def _set_evaluation_mode(encoder: nn.Module, _: object) -> None:
    encoder.eval()  # before each forward: Trainer puts everything into training mode at each step


def lora_targets(encoder: nn.Module) -> list[str]:
    """Names of the layers that get an update: queries and values of attention, else pointwise convolutions.

    Raises:
        ValueError: If the encoder has neither.

    Example:
        >>> lora_targets(nn.ModuleDict({"query": nn.Linear(2, 2), "key": nn.Linear(2, 2)}))
        ['query']
    """
    modules = dict(encoder.named_modules())
    attention = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin")
    found = [n for n, m in modules.items() if isinstance(m, nn.Linear) and n.rsplit(".", 1)[-1] in attention]
    found = found or [n for n, m in modules.items() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    # a squeeze-and-excite gate is a scalar on each channel, no map of features
    found = [name for name in found if "squeeze" not in name]
    if not found:
        raise ValueError(f"A {type(encoder).__name__} has neither attention projections nor pointwise convolutions.")
    return found
