"""A loss term is on the model only while its own Trainer computes a loss, in a training step or an evaluation.

So an interrupted training leaves no term behind, a plain `model(...)` has none, another Trainer has its own alone, and
`trainer.evaluate()` gives the terms at any time.
"""

import functools
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, cast

from torch import nn
from transformers import Trainer, TrainerCallback

from ..losses import LossTerm
from ..model.modeling_otmerge import OTMergeModel, OTMergeOutput, OTMergePreTrainedModel


class Attachable(Protocol):
    """A callback that is the term of a model's loss."""

    term: LossTerm

    def enter(self, host: OTMergePreTrainedModel, inputs: dict[str, Any]) -> None: ...

    def abandon(self) -> None: ...

    def __call__(self, outputs: OTMergeOutput) -> Any: ...


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


def calling_trainer(callback: TrainerCallback) -> Trainer:
    """Find the Trainer that is calling `callback`. A Trainer does not pass itself, so the calling frames are searched.

    Raises:
        RuntimeError: If the caller is no Trainer of transformers, or not this callback's.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer) and any(own is callback for own in caller.callback_handler.callbacks):
            return caller
        frame = frame.f_back
    raise RuntimeError(
        f"{type(callback).__name__} was not called by the Trainer that holds it; in a loop of your own put the term "
        "on the model: `model.loss_terms[name] = term`."
    )


def attach_in_losses(trainer: Trainer, kind: type) -> None:
    """Put the trainer's callbacks of one kind on its model whenever it computes a loss; a second call changes nothing.

    `compute_loss` of this one trainer is wrapped: training steps and evaluations both go through it.
    """
    known = vars(trainer).get("compute_loss")
    if getattr(known, "attaches", None) is kind:
        return
    owner = weakref.ref(trainer)  # a trainer that held itself would keep its model until a garbage collection

    @functools.wraps(type(trainer).compute_loss)
    def compute_loss(model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        trainer = cast(Trainer, owner())
        terms = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, kind)]
        with attached(find_host(model), cast(list[Attachable], terms), inputs):
            if known is not None:
                return known(model, inputs, *args, **kwargs)
            return type(trainer).compute_loss(trainer, model, inputs, *args, **kwargs)

    compute_loss.attaches = kind  # type: ignore[attr-defined]
    trainer.compute_loss = compute_loss  # type: ignore[method-assign]


@contextmanager
def attached(host: OTMergePreTrainedModel, terms: Sequence[Attachable], inputs: dict[str, Any]) -> Iterator[None]:
    """Put terms on a merge for the loss of `inputs`, in a `with` block; what was there before comes back."""
    before = dict(host.loss_terms)
    try:
        for term in terms:
            term.enter(host, inputs)
            host.loss_terms[term.term.name] = term
        yield
    except BaseException:
        for term in terms:
            term.abandon()
        raise
    finally:
        host.loss_terms.clear()
        host.loss_terms.update(before)
