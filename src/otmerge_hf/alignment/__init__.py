"""Fits without gradient steps: features of two encoders and pairs in, two affine maps out."""

from .base import AffineMap, Alignment
from .cca import CCA
from .choice import Candidate, Choice, choose_fit
from .gaussian_monge import GaussianMonge
from .preflight import LayerPair, PreflightReport, preflight
from .procrustes import Procrustes
from .pseudo import PseudoPairs, pseudo_pairs
from .ridge import Ridge
from .sinkhorn_procrustes import SinkhornProcrustes
from .wasserstein_procrustes import WassersteinProcrustes


__all__ = [
    "CCA",
    "AffineMap",
    "Alignment",
    "Candidate",
    "Choice",
    "GaussianMonge",
    "LayerPair",
    "PreflightReport",
    "Procrustes",
    "PseudoPairs",
    "Ridge",
    "SinkhornProcrustes",
    "WassersteinProcrustes",
    "choose_fit",
    "preflight",
    "pseudo_pairs",
]
