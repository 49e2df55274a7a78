"""Callbacks that attach a loss term to the model for the length of a training, schedule it and log it by name."""

from collections import defaultdict
from typing import Any, ClassVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from ..losses import LossTerm, PairedTerm, ReconstructionTerm, SinkhornTerm, VarianceTerm
from ..model.modeling_otmerge import OTMergeModel, OTMergeOutput, OTMergePreTrainedModel
from .accumulation import AccumulationWindow
from .checkpoint import pack_tensors, unpack_tensors, widen_scalar_averages
from .gather import as_points, gather_points
from .schedule import Schedule, value_at


logger = logging.get_logger(__name__)


class LossTermCallback(TrainerCallback, ExportableState):
    """Adds `weight * term` to the model's loss while it trains, under the stock `Trainer`.

    The term is attached in `on_train_begin` and detached in `on_train_end`. Its mean since the last log appears in
    every log (`name`, `name_weight`; `eval_name` in evaluations), in `state.log_history`, and in the metrics that
    `metric_for_best_model` chooses from. One class per term: Trainer restores callbacks by class name. Evaluations
    during a training have the terms in `eval_loss`; `trainer.evaluate()` after it does not, the terms are gone then.

    Args:
        weight: Weight of the term, a number or a schedule `[(progress, weight), ...]`.
        **options: Fields of the term, each a number or (for numbers that a schedule suits) a schedule.
    """

    term_class: ClassVar[type[LossTerm]]
    scheduled: ClassVar[tuple[str, ...]] = ()

    def __init__(self, weight: Schedule = 1.0, **options: Any):
        self.weight, self.options = weight, options
        self.term = self.term_class(**self._options_at(0.0))
        value_at(weight, 0.0)  # a wrong schedule is better refused now than at the first step
        self._weight_now = value_at(weight, 0.0)
        self._window: AccumulationWindow | None = None
        self._host: OTMergePreTrainedModel | None = None
        self._sums: dict[str, list[torch.Tensor]] = defaultdict(list)

    def state(self) -> dict:
        """What a checkpoint keeps: arguments and buffers; schedules depend on the Trainer's step alone."""
        buffers = self.buffers
        return {"args": {"weight": self.weight, **self.options}, "attributes": {"buffers": buffers} if buffers else {}}

    @property
    def needs_reconstruction(self) -> bool:
        """Whether the model has to run its decoders for the term."""
        return self.term.needs_reconstruction

    @property
    def buffers(self) -> dict[str, Any]:
        """The term's buffers as JSON."""
        return pack_tensors(self.term.buffers())

    @buffers.setter
    def buffers(self, packed: dict[str, Any]) -> None:
        self.term.load_buffers(unpack_tensors(packed))

    def _options_at(self, progress: float) -> dict[str, Any]:
        return {
            name: value_at(value, progress, geometric=True) if name in self.scheduled else value
            for name, value in self.options.items()
        }

    def __call__(self, outputs: OTMergeOutput) -> torch.Tensor:
        """Weighted value of the term; what the model's `forward` calls."""
        training = self._host is not None and self._host.training
        seen: OTMergeOutput | None = outputs
        length = 1
        if self.term.of_sets:
            if training and self._window is not None:
                seen, length = self._window(outputs, self.term.needs_tokens)
            else:
                seen = as_points(outputs, tokens=self.term.needs_tokens)
            if seen is None:
                return outputs["context_embeds"].sum() * 0  # keeps a graph, so that a loss of this term alone has one
            seen = gather_points(seen)
        value = self.term(seen)
        self._sums["train" if training else "eval"].append(value.detach().float())
        return self._weight_now * length * value

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Attach the term to the merge inside `model`."""
        if kwargs.get("optimizer") is not None:
            widen_scalar_averages(kwargs["optimizer"])
        self._host = find_host(model)
        self.term.check(self._host)
        self._window = None
        if self.term.of_sets and args.gradient_accumulation_steps > 1:
            if self._host.config.freeze_encoders:
                self._window = AccumulationWindow(base_model(self._host))
            else:
                logger.warning(
                    f"`{self.term.name}` compares sets and the encoders train: with gradient accumulation it sees "
                    "each micro-batch by itself, not their union."
                )
        self._sums.clear()
        # A resumed training goes on from the checkpoint's buffers, any other starts anew.
        kept: Any = state.stateful_callbacks if state.global_step else {}
        self.buffers = kept.get(type(self).__name__, {}).get("attributes", {}).get("buffers", {})
        earlier = self._host.loss_terms.get(self.term.name)
        if earlier is not None and earlier is not self:
            logger.warning(
                f"A `{self.term.name}` term is attached already, by a second callback of this class or by a training "
                "that was interrupted; this one takes its place."
            )
        self._host.loss_terms[self.term.name] = self
        self._update(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move along the schedules."""
        self._update(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the term's mean since the last log."""
        if logs is None or self._host is None:
            return
        # the shortest: a metric of the user's may end in `_loss` as well
        prefixes = [key[: -len("loss")] for key in logs if key.endswith("_loss") and key != "train_loss"]
        prefix = min(prefixes, key=len, default=None)
        if prefix is None and "loss" not in logs:
            return  # the closing summary of a training
        kind = "train" if prefix is None else "eval"
        mean = _mean_over_processes(self._sums.pop(kind, []))
        if mean is None:
            return
        new = {f"{prefix or ''}{self.term.name}": mean}
        if prefix is None:
            new[f"{self.term.name}_weight"] = self._weight_now
            new.update({f"{self.term.name}_{name}": getattr(self.term, name) for name in self.scheduled})
        logs.update(new)
        if state.log_history:
            state.log_history[-1].update(new)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach the term."""
        if self._host is not None:
            self._host.loss_terms.pop(self.term.name, None)
        self._host = self._window = None

    def _update(self, state: TrainerState) -> None:
        progress = state.global_step / max(state.max_steps, 1)
        self._weight_now = value_at(self.weight, progress)
        for name, value in self._options_at(progress).items():
            setattr(self.term, name, value)


class PairedLossCallback(LossTermCallback):
    """Attaches [`PairedTerm`]: squared distance of paired embeddings."""

    term_class = PairedTerm


class SinkhornLossCallback(LossTermCallback):
    """Attaches [`SinkhornTerm`]; `epsilon` may be a schedule, interpolated geometrically."""

    term_class = SinkhornTerm
    scheduled = ("epsilon",)

    def __init__(self, weight: Schedule = 1.0, epsilon: Schedule = 0.05, **options: Any):
        super().__init__(weight, epsilon=epsilon, **options)


class ReconstructionLossCallback(LossTermCallback):
    """Attaches [`ReconstructionTerm`]; `weight` is the proposals' lambda_rec."""

    term_class = ReconstructionTerm


class VarianceLossCallback(LossTermCallback):
    """Attaches [`VarianceTerm`], the guard against collapse."""

    term_class = VarianceTerm


def find_host(model: nn.Module) -> OTMergePreTrainedModel:
    """Find the merge inside a model that PEFT, DDP or a compiler may have wrapped."""
    for module in model.modules():
        if isinstance(module, OTMergePreTrainedModel):
            return module
    raise ValueError(f"A {type(model).__name__} holds no OTMerge model: loss terms have nothing to attach to.")


def base_model(host: OTMergePreTrainedModel) -> OTMergeModel:
    """Get the part of a merge that holds the adapters."""
    base = host if isinstance(host, OTMergeModel) else host.get_submodule("otmerge")
    return cast(OTMergeModel, base)


def prioritize(trainer: Trainer) -> Trainer:
    """Put loss-term callbacks before the reporting ones, so that TensorBoard and others see the terms too.

    Trainer runs reporters before the callbacks that it was given, and a term reaches the logs in its own `on_log`.
    """
    callbacks = trainer.callback_handler.callbacks
    callbacks.sort(key=lambda callback: not isinstance(callback, LossTermCallback))
    return trainer


def _mean_over_processes(values: list[torch.Tensor]) -> float | None:
    """Mean of the values of all processes; every process has to call it."""
    if PartialState().num_processes == 1:
        return torch.stack(values).mean().item() if values else None
    device = PartialState().device
    total = torch.stack(values).sum().to(device) if values else torch.zeros((), device=device)
    pair = reduce(torch.stack([total, torch.tensor(float(len(values)), device=device)]))
    return (pair[0] / pair[1]).item() if pair[1] > 0 else None
