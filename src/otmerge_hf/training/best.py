"""The best state of a training by its validation loss, and a training that stops where another was best."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import TrainerCallback

from .kept import Kept


_BEST = "best"


class KeepBest(TrainerCallback):
    """Keeps what learns, in memory, at the lowest `eval_loss`; stops when it has risen too often.

    The last step is evaluated too, whatever `eval_steps` says. Where Trainer saves a checkpoint, the best state goes
    into it, so that a resumed training knows it.

    Trainer's own `load_best_model_at_end` writes the whole merge, encoders too, at each evaluation.

    Args:
        model: What is trained.
        patience: Evaluations without a lower loss before the training stops.
        is_hopeless: Asked once, at the first evaluation from half of the steps on, whether training is to stop there.

    Attributes:
        steps: Optimiser steps of the best state.
        losses: Validation losses, in nats.
    """

    def __init__(self, model: nn.Module, patience: int = 4, is_hopeless: Callable[[], bool] = lambda: False) -> None:
        self.model, self.best, self.patience = model, math.inf, patience
        self.steps, self.losses, self._state = 0, list[float](), dict[str, Tensor]()
        self._is_hopeless = is_hopeless
        self._hopeless: bool | None = None  # None: not asked yet

    @property
    def is_over(self) -> bool:
        """Whether the loss has risen too often, or the training was found to be hopeless."""
        if self._hopeless:
            return True
        return bool(self.losses) and len(self.losses) - 1 - self.losses.index(min(self.losses)) >= self.patience

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_evaluate |= args.eval_strategy == "steps" and control.should_training_stop

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.losses.append(kwargs["metrics"]["eval_loss"])
        if self.losses[-1] < self.best:
            self.best, self.steps, self._state = self.losses[-1], state.global_step, self._copy()
        halfway = state.max_steps <= 2 * state.global_step < 2 * state.max_steps
        if self._hopeless is None and halfway and not self.is_over:
            # of several ranks the first one's word: a rank that stops alone leaves the others waiting
            self._hopeless = broadcast_object_list([self._is_hopeless()])[0]
        control.should_training_stop |= self.is_over

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.keep(Kept(Path(args.output_dir) / f"checkpoint-{state.global_step}"), _BEST)

    def keep(self, kept: Kept, name: str = _BEST) -> None:
        """Write the best state to a folder."""
        kept.write(name, self._state, {"steps": self.steps, "losses": self.losses, "hopeless": self._hopeless})

    def load(self, kept: Kept, name: str = _BEST) -> bool:
        """Take over a best state that [`keep`] wrote; False if there is none."""
        if (found := kept.read(name)) is None:
            return False
        self._state, notes = found
        self.steps, self.losses, self._hopeless = notes["steps"], notes["losses"], notes.get("hopeless")
        self.best = min(self.losses, default=math.inf)
        return True

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
