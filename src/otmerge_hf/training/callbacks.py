"""Callbacks that add a loss term to the model's loss under the stock Trainer, schedule it and log it by name."""

import weakref
from collections import defaultdict
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from ..losses import LossTerm, PairedTerm, ReconstructionTerm, SinkhornTerm, VarianceTerm, watch_convergence
from ..model.modeling_otmerge import OTMergeOutput, OTMergePreTrainedModel
from .accumulation import AccumulationWindow
from .attachment import attach_in_losses, base_model, calling_trainer, find_host
from .checkpoint import pack_tensors, unpack_tensors, widen_scalar_averages
from .gather import as_points, gather_points
from .schedule import Schedule, value_at


logger = logging.get_logger(__name__)


class LossTermCallback(TrainerCallback, ExportableState):
    """Adds `weight * term` to the model's loss, under the stock `Trainer` that holds the callback.

    The term is on the model only while this Trainer computes a loss, in training or `trainer.evaluate()`. Its mean
    since the last log is in every log (`name`, `name_weight`; `eval_name` in evaluations), in `state.log_history`, and
    in the metrics that `metric_for_best_model` chooses from; so is `name_unconverged`, the share of the evaluations
    in which a transport solver did not converge, if any. One class per term: Trainer restores them by class name.

    Args:
        weight: Weight of the term, a number or a schedule `[(progress, weight), ...]`.
        **options: Fields of the term, each a number or (for numbers that a schedule suits) a schedule.
    """

    term_class: ClassVar[type[LossTerm]]
    scheduled: ClassVar[tuple[str, ...]] = ()

    def __init__(self, weight: Schedule = 1.0, **options: Any):
        self.weight, self.options = weight, options
        self.term = self.term_class(**self._options_at(0.0))
        self._weight_now = value_at(
            weight, 0.0, name="weight"
        )  # a wrong schedule is better refused now than at the first step
        self._window: AccumulationWindow | None = None
        self._training = self._warned = False
        self._prepared: weakref.ref[OTMergePreTrainedModel] | None = None  # the merge that the term is ready for
        # a pair for each evaluation of the term, of training and of evaluation: its value, 1 if not converged
        self._seen: dict[str, list[torch.Tensor]] = defaultdict(list)

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
            name: value_at(value, progress, geometric=True, name=name) if name in self.scheduled else value
            for name, value in self.options.items()
        }

    def prepare(self, host: OTMergePreTrainedModel) -> None:
        """Get ready for a merge: refuse one that cannot give what the term needs."""
        self.term.check(host)
        self._prepared = weakref.ref(host)

    def enter(self, host: OTMergePreTrainedModel, inputs: dict[str, Any]) -> None:
        """Note what the next loss is for, and of which inputs; called when the term is put on the merge."""
        if self._prepared is None or self._prepared() is not host:  # an evaluation without a training
            self.prepare(host)
        self._training = host.training
        if self._window is not None:
            self._window.inputs = inputs

    def abandon(self) -> None:
        """Forget what an interrupted training or evaluation had seen so far."""
        self._seen.clear()
        self._window = None

    def __call__(self, outputs: OTMergeOutput) -> torch.Tensor:
        """Weighted value of the term; what the model's `forward` calls."""
        seen: OTMergeOutput | None = outputs
        length = 1
        if self.term.batch_level:
            if self._training and self._window is not None:
                seen, length = self._window(outputs, self.term.needs_tokens)
            else:
                seen = as_points(outputs, tokens=self.term.needs_tokens)
            if seen is None:
                return outputs["context_embeds"].sum() * 0  # keeps a graph, so that a loss of this term alone has one
            seen = gather_points(seen)
        with watch_convergence() as solves:
            value = self.term(seen)
        failed = 1 - torch.stack(solves).all().float() if solves else torch.zeros(())
        pair = torch.stack([value.detach().float(), failed.to(value.device)])
        self._seen["train" if self._training else "eval"].append(pair)
        return self._weight_now * length * value

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Join the losses of the Trainer, and let the temperature learn only if one of its terms uses it.

        A parameter that gets no gradient stops DistributedDataParallel under gradient checkpointing, and the optimizer
        is built before `on_train_begin`. A model that PEFT wrapped is left as PEFT made it.
        """
        trainer = calling_trainer(self)
        attach_in_losses(trainer, LossTermCallback)
        if isinstance(model, OTMergePreTrainedModel):
            learns = any(callback.term.uses_temperature for callback in _term_callbacks(trainer))
            base_model(model).logit_scale.requires_grad_(learns)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Start anew, or from a checkpoint's buffers in a resumed training."""
        if kwargs.get("optimizer") is not None:
            widen_scalar_averages(kwargs["optimizer"])
        trainer = calling_trainer(self)
        attach_in_losses(trainer, LossTermCallback)  # a callback that was added, or restored, after `on_init_end`
        host = find_host(model)
        self._check_others(trainer, host)
        self.prepare(host)
        self._warned = False
        self.abandon()
        if self.term.batch_level and args.gradient_accumulation_steps > 1:
            self._window = AccumulationWindow(base_model(host))
        kept: Any = state.stateful_callbacks if state.global_step else {}
        self.buffers = kept.get(type(self).__name__, {}).get("attributes", {}).get("buffers", {})
        self._update(state)

    def _check_others(self, trainer: Trainer, host: OTMergePreTrainedModel) -> None:
        name = self.term.name
        if sum(callback.term.name == name for callback in _term_callbacks(trainer)) > 1:
            raise ValueError(f"This Trainer has two `{name}` terms; expected one: checkpoints tell them by class.")
        if name in host.loss_terms:
            logger.warning(f"There is another `{name}` term on the model; that of this Trainer is used.")
        if self.term.uses_temperature and not any(p.requires_grad for p in base_model(host).logit_scale.parameters()):
            logger.warning(
                f"`{name}` uses the model's temperature, which is frozen and stays as it is: give the callback to "
                "`Trainer(callbacks=...)` and to `set_stage(..., terms=...)`, or fix a `temperature`."
            )

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move along the schedules."""
        self._update(state)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Add the term's mean since the last log."""
        if logs is None or ((prefix := _prefix(logs)) is None and "loss" not in logs):
            return  # nothing, or the closing summary of a training
        new = self._take("train" if prefix is None else "eval", prefix or "", state)
        if new and prefix is None:
            new[f"{self.term.name}_weight"] = self._weight_now
            new.update({f"{self.term.name}_{name}": getattr(self.term, name) for name in self.scheduled})
        logs.update(new)
        if state.log_history:
            state.log_history[-1].update(new)

    def on_predict(
        self, args: Any, state: TrainerState, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Add the term's mean to the metrics of `trainer.predict`."""
        prefix = _prefix(metrics)
        if prefix is not None:  # else there were no labels, and no loss
            metrics.update(self._take("eval", prefix, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let go of the model."""
        self._window = None

    def _take(self, kind: str, prefix: str, state: TrainerState) -> dict[str, float]:
        """Means of what was seen since the last time, by name; every process has to call it."""
        means = _mean_over_processes(self._seen.pop(kind, []))
        if means is None:
            return {}
        (value, unconverged), name = means, self.term.name
        if unconverged == 0:
            return {f"{prefix}{name}": value}
        if not self._warned and state.is_world_process_zero:
            logger.warning(
                f"The solver of `{name}` did not converge in {unconverged:.0%} of its evaluations since the last log: "
                f"its value and gradient are approximate there. Raise `epsilon` (now "
                f"{getattr(self.term, 'epsilon', None)})."
            )
        self._warned = True
        return {f"{prefix}{name}": value, f"{prefix}{name}_unconverged": unconverged}

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
    """Attaches [`ReconstructionTerm`]: the decoders' squared error."""

    term_class = ReconstructionTerm


class VarianceLossCallback(LossTermCallback):
    """Attaches [`VarianceTerm`], the guard against collapse."""

    term_class = VarianceTerm


def prioritize(trainer: Trainer) -> Trainer:
    """Put loss-term callbacks before the reporting ones, so that TensorBoard and others see the terms too.

    Trainer runs reporters before the callbacks that it was given, and a term reaches the logs in its own `on_log`.
    Terms that were added by `add_callback` join the Trainer's losses here, if not earlier, when it trains.
    """
    attach_in_losses(trainer, LossTermCallback)
    callbacks = trainer.callback_handler.callbacks
    callbacks.sort(key=lambda callback: not isinstance(callback, LossTermCallback))
    return trainer


def _term_callbacks(trainer: Trainer) -> list[LossTermCallback]:
    return [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, LossTermCallback)]


def _prefix(metrics: dict[str, float]) -> str | None:
    """`eval_`, `test_` or another prefix of an evaluation's metrics; None in a training's logs."""
    # the shortest: a metric of the user's may end in `_loss` as well
    prefixes = [key[: -len("loss")] for key in metrics if key.endswith("_loss") and key != "train_loss"]
    return min(prefixes, key=len, default=None)


def _mean_over_processes(rows: list[torch.Tensor]) -> list[float] | None:
    """Mean of the rows of all processes, each (2,); every process has to call it."""
    if PartialState().num_processes == 1:
        return torch.stack(rows).mean(dim=0).tolist() if rows else None
    device = PartialState().device
    total = torch.stack(rows).sum(dim=0).to(device) if rows else torch.zeros(2, device=device)
    summed = reduce(torch.cat([total, total.new_tensor([float(len(rows))])]))
    return (summed[:2] / summed[2]).tolist() if summed[2] > 0 else None
