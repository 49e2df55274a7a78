"""The ceiling: both encoders train with everything else, on raw inputs."""

from .fitting import Fitted, train
from .recipe import Recipe
from .task import Task


def fit(task: Task, recipe: Recipe) -> Fitted:
    """Train everything from labels; the encoders at their own learning rate."""
    model = task.build(recipe, freeze_encoders=False)
    encoders = {id(p) for side in ("context", "query") for p in getattr(model.otmerge, f"{side}_encoder").parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in encoders], "lr": recipe.encoder_learning_rate},
        {"params": [p for p in model.parameters() if id(p) not in encoders], "lr": recipe.learning_rate},
    ]
    # no alignment term is used: the temperature gets no gradient, and AdamW leaves it alone
    steps = recipe.steps(len(task.train), recipe.epochs)
    phase = train(
        task, model, task.train, recipe, name="joint", steps=steps, collator=task.raw(), groups=groups, long=True
    )
    return Fitted(model=model, phases=[phase], labels=len(task.train), raw=True)
