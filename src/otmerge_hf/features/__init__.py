"""Frozen-encoder features, computed once per distinct input, kept on disk, fed to the model."""

from .collator import FeatureCollator
from .compute import compute_features
from .embedding import embed
from .encoding import encode
from .keys import encoder_key, inputs_key
from .means import mean_features
from .raw_statistics import standardize_on
from .store import FeatureStore


__all__ = [
    "FeatureCollator",
    "FeatureStore",
    "compute_features",
    "embed",
    "encode",
    "encoder_key",
    "inputs_key",
    "mean_features",
    "standardize_on",
]
