"""The best state of a training by its validation loss, and a training that stops where another was best."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback


class KeepBest(TrainerCallback):
    """Keeps what learns, in memory, at the lowest `eval_loss`; stops when it has risen too often.

    The last step is evaluated too, whatever `eval_steps` says.

    Trainer's own `load_best_model_at_end` writes the whole merge, encoders too, at each evaluation.

    Args:
        model: What is trained.
        patience: Evaluations without a lower loss before the training stops.

    Attributes:
        steps: Optimiser steps of the best state.
        losses: Validation losses, in nats.
    """

    def __init__(self, model: nn.Module, patience: int = 4) -> None:
        self.model, self.best, self.patience = model, math.inf, patience
        self.steps, self.losses, self._state = 0, list[float](), dict[str, Tensor]()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_evaluate |= args.eval_strategy == "steps" and control.should_training_stop

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.losses.append(kwargs["metrics"]["eval_loss"])
        if self.losses[-1] < self.best:
            self.best, self.steps, self._state = self.losses[-1], state.global_step, self._copy()
        since = len(self.losses) - 1 - self.losses.index(min(self.losses))
        control.should_training_stop |= since >= self.patience

    def _copy(self) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best state back."""
        for name, parameter in self.model.named_parameters():
            if name in self._state:
                parameter.copy_(self._state[name])


class StopAt(TrainerCallback):
    """Stops a training after a number of steps, its schedule being that of the longer one."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop |= state.global_step >= self.steps
