"""What a merge does, made visible: where an answer comes from, as heat over the image, and a page of them."""

from .explanations import EXPLANATIONS
from .gallery import save_gallery
from .maps import attention_map


__all__ = ["EXPLANATIONS", "attention_map", "save_gallery"]
