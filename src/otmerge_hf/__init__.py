"""Merge two frozen pretrained encoders into one transformers model with optimal transport."""

__version__ = "0.1.0"
