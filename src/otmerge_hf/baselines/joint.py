"""The ceiling: both encoders train with everything else, on raw inputs."""

from torch import nn

from .fitting import Fitted, train
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Train everything from labels, in training mode; the encoders at their own learning rate."""
    return fit_jointly(task, recipe, still=False)


def fit_jointly(task: Task, recipe: Recipe, still: bool) -> Fitted:
    """Train everything from labels; with `still` the encoders' dropout and batch statistics rest."""
    model = task.build(recipe, freeze_encoders=False)
    encoders = [getattr(model.otmerge, f"{side}_encoder") for side in ("context", "query")]
    inside = {id(parameter) for encoder in encoders for parameter in encoder.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in inside], "lr": recipe.encoder_learning_rate},
        {"params": [p for p in model.parameters() if id(p) not in inside], "lr": recipe.learning_rate},
    ]
    if still:
        for encoder in encoders:
            encoder.register_forward_pre_hook(_rest)
    # no alignment term is used: the temperature gets no gradient, and AdamW leaves it alone
    steps = recipe.steps(len(task.train), recipe.epochs)
    phase = train(
        task, model, task.train, recipe, name="joint", steps=steps, collator=task.raw(), groups=groups, long=True
    )
    return Fitted(model=model, phases=[phase], labels=len(task.train), raw=True)


def _rest(encoder: nn.Module, _: object) -> None:
    encoder.eval()  # before each forward: Trainer puts everything into training mode at each step
