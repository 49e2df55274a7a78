"""Training with transformers' own Trainer: callbacks that attach loss terms, and stages of what is frozen when."""

from .callbacks import (
    LossTermCallback,
    PairedLossCallback,
    ReconstructionLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    prioritize,
)
from .schedule import Schedule, value_at
from .stages import set_stage, trainable_table


__all__ = [
    "LossTermCallback",
    "PairedLossCallback",
    "ReconstructionLossCallback",
    "Schedule",
    "SinkhornLossCallback",
    "VarianceLossCallback",
    "prioritize",
    "set_stage",
    "trainable_table",
    "value_at",
]
