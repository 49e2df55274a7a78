"""Pretrained encoders that install as PyPI packages: names in, folders that transformers loads out."""

from .names import IMAGE_ENCODERS, TEXT_ENCODERS, find_packaged, resolve_encoder
from .packages import convert_efficientnet_lite, convert_minilm_l3, convert_vit_small, minilm_l6_path


__all__ = [
    "IMAGE_ENCODERS",
    "TEXT_ENCODERS",
    "convert_efficientnet_lite",
    "convert_minilm_l3",
    "convert_vit_small",
    "find_packaged",
    "minilm_l6_path",
    "resolve_encoder",
]
