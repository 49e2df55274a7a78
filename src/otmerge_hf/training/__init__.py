"""Training with transformers' own Trainer: loss terms as callbacks, the two stages, and pseudo-labels."""

from .adapter_checkpoints import AdapterCheckpoints
from .alignment_callbacks import (
    ContrastiveLossCallback,
    GromovLossCallback,
    KLOTLossCallback,
    MMDLossCallback,
    PrototypeLossCallback,
    StructureLossCallback,
)
from .balance import balanced_weights
from .callbacks import (
    LossTermCallback,
    PairedLossCallback,
    ReconstructionLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    prioritize,
)
from .growth import Growth, grow_answers
from .measuring import put_answer_texts
from .merge_plan import MergePlan, plan_merge
from .merge_result import MergeResult
from .mixed import MixedCollator, mixed_dataset
from .pseudo_labels import PseudoLabels, candidate_statements, make_pseudo_labels, nearest_statement
from .query_tokens import ChosenTokens, choose_query_tokens
from .refine import Refinement, refine_alignment
from .schedule import Schedule, value_at
from .stages import set_stage, trainable_table
from .train_merge import train_merge
from .two_stages import answer_accuracy, train_alignment, train_answers


__all__ = [
    "AdapterCheckpoints",
    "ChosenTokens",
    "ContrastiveLossCallback",
    "GromovLossCallback",
    "Growth",
    "KLOTLossCallback",
    "LossTermCallback",
    "MMDLossCallback",
    "MergePlan",
    "MergeResult",
    "MixedCollator",
    "PairedLossCallback",
    "PrototypeLossCallback",
    "PseudoLabels",
    "ReconstructionLossCallback",
    "Refinement",
    "Schedule",
    "SinkhornLossCallback",
    "StructureLossCallback",
    "VarianceLossCallback",
    "answer_accuracy",
    "balanced_weights",
    "candidate_statements",
    "choose_query_tokens",
    "grow_answers",
    "make_pseudo_labels",
    "mixed_dataset",
    "nearest_statement",
    "plan_merge",
    "prioritize",
    "put_answer_texts",
    "refine_alignment",
    "set_stage",
    "train_alignment",
    "train_answers",
    "train_merge",
    "trainable_table",
    "value_at",
]
