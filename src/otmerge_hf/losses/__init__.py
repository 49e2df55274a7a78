"""Loss terms: pure functions of the model's outputs, one file each. Which one to take: `docs/losses.md`.

Every function returns a float32 scalar (float64 for float64 inputs), whatever the surrounding autocast says, and
raises ValueError for shapes that do not fit, numbers out of range or not finite, and unknown names.
"""

from .contrastive import ContrastiveTerm, contrastive_loss
from .convergence import watch_convergence
from .gromov import GromovTerm, gromov_loss
from .klot import KLOTTerm, Teacher, klot_loss
from .mmd import MMDTerm, mmd_loss
from .paired import PairedTerm, paired_loss
from .prototype import PrototypeTerm, prototype_loss
from .reconstruction import ReconstructionTerm, reconstruction_loss
from .sinkhorn import SinkhornTerm, sinkhorn_loss
from .structure import StructureTerm, structure_loss
from .term import LossTerm
from .variance import VarianceTerm, variance_loss


__all__ = [
    "ContrastiveTerm",
    "GromovTerm",
    "KLOTTerm",
    "LossTerm",
    "MMDTerm",
    "PairedTerm",
    "PrototypeTerm",
    "ReconstructionTerm",
    "SinkhornTerm",
    "StructureTerm",
    "Teacher",
    "VarianceTerm",
    "contrastive_loss",
    "gromov_loss",
    "klot_loss",
    "mmd_loss",
    "paired_loss",
    "prototype_loss",
    "reconstruction_loss",
    "sinkhorn_loss",
    "structure_loss",
    "variance_loss",
    "watch_convergence",
]
