"""Callbacks of the terms that align with few pairs, unpaired rows or negatives. Which one: `docs/losses.md`."""

from collections.abc import Mapping
from typing import Any

import torch

from ..losses import ContrastiveTerm, GromovTerm, KLOTTerm, MMDTerm, PrototypeTerm, StructureTerm, Teacher
from ..model.modeling_otmerge import OTMergePreTrainedModel
from ..model.scaling import Standardizer
from .attachment import base_model
from .callbacks import LossTermCallback
from .checkpoint import pack_tensors, unpack_tensors
from .schedule import Schedule


class ContrastiveLossCallback(LossTermCallback):
    """Attaches [`ContrastiveTerm`]: InfoNCE or SigLIP, with negatives from all processes.

    Without a fixed `temperature` the model's own one learns. It learns in no training that has no such term.
    """

    term_class = ContrastiveTerm


class MMDLossCallback(LossTermCallback):
    """Attaches [`MMDTerm`]: maximum mean discrepancy of the two clouds."""

    term_class = MMDTerm


class PrototypeLossCallback(LossTermCallback):
    """Attaches [`PrototypeTerm`]; checkpoints hold the prototypes, and a resumed training goes on from them."""

    term_class = PrototypeTerm
    scheduled = ("epsilon",)


class GromovLossCallback(LossTermCallback):
    """Attaches [`GromovTerm`]: equal inner shape of the two clouds; `epsilon` may be a schedule."""

    term_class = GromovTerm
    scheduled = ("epsilon",)


class StructureLossCallback(LossTermCallback):
    """Attaches [`StructureTerm`]: neighbours of the encoders' spaces stay neighbours."""

    term_class = StructureTerm


class KLOTLossCallback(LossTermCallback):
    """Attaches [`KLOTTerm`] with a teacher that was fitted in closed form, as `alignment.CCA` and its siblings are.

    Args:
        weight: Weight of the term, a number or a schedule.
        teacher: A fit with `context_map_` and `query_map_`, or a [`Teacher`]. Checkpoints hold a copy (as text, a
            third larger than the tensors).
        standardized: What the teacher was fitted on: False, means of the encoders' tokens as features come; True,
            as the adapters receive them.
        **options: `epsilon` (a number or a schedule) and `teacher_epsilon`.

    Raises:
        ValueError: If the teacher has no affine maps; when training starts, if its widths are not the model's.
    """

    term_class = KLOTTerm
    scheduled = ("epsilon",)

    def __init__(self, weight: Schedule = 1.0, *, teacher: Any, standardized: bool = False, **options: Any):
        super().__init__(weight, **options)
        self.teacher, self.standardized = as_teacher(teacher), standardized

    def state(self) -> dict:
        """What a checkpoint keeps: the arguments, the teacher packed as text."""
        state = super().state()
        state["args"] |= {"teacher": pack_tensors(self.teacher._asdict()), "standardized": self.standardized}
        return state

    def prepare(self, host: OTMergePreTrainedModel) -> None:
        """Give the term its teacher, in the space of what the adapters receive."""
        super().prepare(host)
        folded: dict[str, torch.Tensor] = {}
        for side in ("context", "query"):
            weight, bias = getattr(self.teacher, f"{side}_weight"), getattr(self.teacher, f"{side}_bias")
            width = host.config.feature_dim(side)
            if weight.shape[1] != width:
                raise ValueError(f"The teacher maps {weight.shape[1]} {side} features; the model has {width}.")
            standardizer = base_model(host).get_submodule(f"{side}_standardizer")
            if isinstance(standardizer, Standardizer) and not self.standardized:
                weight, bias = standardizer.fold_in(*(values.to(standardizer.mean) for values in (weight, bias)))
            folded |= {f"{side}_weight": weight.detach(), f"{side}_bias": bias.detach()}
        assert isinstance(self.term, KLOTTerm)
        self.term.teacher = Teacher(**folded)


def as_teacher(teacher: Any) -> Teacher:
    """Take a [`Teacher`], a closed-form fit, or what a checkpoint kept of one."""
    if isinstance(teacher, Teacher):
        return teacher
    if isinstance(teacher, Mapping):
        return Teacher(**unpack_tensors(dict(teacher)))
    if not (hasattr(teacher, "context_map_") and hasattr(teacher, "query_map_")):
        kind = type(teacher).__name__
        raise ValueError(f"`teacher` is a {kind}; expected a fit (call its `fit` first) or a Teacher of maps.")
    return Teacher(*teacher.context_map_, *teacher.query_map_)
