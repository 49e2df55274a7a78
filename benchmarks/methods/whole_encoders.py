"""Low-rank updates of both encoders, with adapters, fuser and head, on raw inputs."""

from torch import nn

from ..training import set_stage
from .fitting import Fitted, train
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Put LoRA into the encoders and teach answers; the encoders' own weights and statistics stay."""
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
    steps = recipe.steps(len(task.train), recipe.epochs)
    phase = train(
        task, model, task.train, recipe, name="lora", steps=steps, collator=task.raw(), groups=groups, long=True
    )
    return Fitted(model=model, phases=[phase], labels=len(task.train), raw=True)


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
