"""Alignment without gradient steps: two encoders and pairs in, two affine maps, or a whole merge, out.

Every fit raises ValueError for an argument that is out of range, malformed features or pairs, and too few of them.
"""

from .align import align_encoders
from .base import AffineMap, Alignment
from .cca import CCA
from .choice import Candidate, Choice, choose_fit
from .forecasting import Forecast, Needed, forecast
from .gaussian_monge import GaussianMonge
from .preflight import LayerPair, PreflightReport, preflight
from .procrustes import Procrustes
from .pseudo_pairs import PseudoPairs, pseudo_pairs
from .recommendations import RECOMMENDATIONS, Recommendation, recommend
from .result import AlignmentResult
from .ridge import Ridge
from .sinkhorn_procrustes import SinkhornProcrustes
from .wasserstein_procrustes import WassersteinProcrustes


__all__ = [
    "CCA",
    "RECOMMENDATIONS",
    "AffineMap",
    "Alignment",
    "AlignmentResult",
    "Candidate",
    "Choice",
    "Forecast",
    "GaussianMonge",
    "LayerPair",
    "Needed",
    "PreflightReport",
    "Procrustes",
    "PseudoPairs",
    "Recommendation",
    "Ridge",
    "SinkhornProcrustes",
    "WassersteinProcrustes",
    "align_encoders",
    "choose_fit",
    "forecast",
    "preflight",
    "pseudo_pairs",
    "recommend",
]
