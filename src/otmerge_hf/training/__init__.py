"""Training with transformers' own Trainer: callbacks that attach loss terms, and stages of what is frozen when."""

from .alignment_callbacks import (
    ContrastiveLossCallback,
    GromovLossCallback,
    KLOTLossCallback,
    MMDLossCallback,
    PrototypeLossCallback,
    StructureLossCallback,
)
from .callbacks import (
    LossTermCallback,
    PairedLossCallback,
    ReconstructionLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    prioritize,
)
from .mixed import MixedCollator, mixed_dataset
from .schedule import Schedule, value_at
from .stages import set_stage, trainable_table


__all__ = [
    "ContrastiveLossCallback",
    "GromovLossCallback",
    "KLOTLossCallback",
    "LossTermCallback",
    "MMDLossCallback",
    "MixedCollator",
    "PairedLossCallback",
    "PrototypeLossCallback",
    "ReconstructionLossCallback",
    "Schedule",
    "SinkhornLossCallback",
    "StructureLossCallback",
    "VarianceLossCallback",
    "mixed_dataset",
    "prioritize",
    "set_stage",
    "trainable_table",
    "value_at",
]
