"""Fits without gradient steps: features of two encoders and pairs in, two affine maps out."""

from .base import AffineMap, Alignment
from .cca import CCA
from .gaussian_monge import GaussianMonge
from .procrustes import Procrustes
from .ridge import Ridge


__all__ = ["CCA", "AffineMap", "Alignment", "GaussianMonge", "Procrustes", "Ridge"]
