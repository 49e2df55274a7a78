"""What a merge does, made visible: attention maps and, later, geometry and invertibility."""

from .gallery import attention_map, save_gallery


__all__ = ["attention_map", "save_gallery"]
