"""Loss terms: pure functions of the model's outputs, one file each. Which one to take: `docs/losses.md`."""

from .paired import PairedTerm, paired_loss
from .reconstruction import ReconstructionTerm, reconstruction_loss
from .sinkhorn import SinkhornTerm, sinkhorn_loss
from .term import LossTerm
from .variance import VarianceTerm, variance_loss


__all__ = [
    "LossTerm",
    "PairedTerm",
    "ReconstructionTerm",
    "SinkhornTerm",
    "VarianceTerm",
    "paired_loss",
    "reconstruction_loss",
    "sinkhorn_loss",
    "variance_loss",
]
