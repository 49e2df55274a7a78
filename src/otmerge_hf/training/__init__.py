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
from .two_stages import answer_accuracy, train_alignment, train_answers


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
    "answer_accuracy",
    "mixed_dataset",
    "prioritize",
    "set_stage",
    "train_alignment",
    "train_answers",
    "trainable_table",
    "value_at",
]
