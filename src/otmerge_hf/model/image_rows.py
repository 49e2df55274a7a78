"""Several images a row on their way through an image processor: lists of lists in, one block of pixels out."""

from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature


def images_by_row(images: Any) -> list[int]:
    """How many images each row has, where `images` is a list of lists; else nothing."""
    rows = images if isinstance(images, (list, tuple)) else []
    nested = [isinstance(row, (list, tuple)) for row in rows]
    if not any(nested):
        return []
    for place, row in enumerate(rows):
        if not nested[place] or not row:
            got = "an empty list" if nested[place] else "a single image"
            raise ValueError(f"`images` row {place} is {got}; expected a list of images in every row, or in none.")
    return [len(row) for row in rows]


def fold_rows(made: BatchFeature, counts: list[int]) -> None:
    """Bring pixels (B * n, C, H, W) to (B, n, C, H, W), and say which images are there, if rows have not as many."""
    if "spatial_shapes" in made:
        raise ValueError("`images` holds lists, and the processor cuts images into patches; expected one image a row.")
    pixels, most = made["pixel_values"], max(counts)
    if hasattr(pixels, "reshape"):
        made["pixel_values"] = pixels.reshape(len(counts), most, *pixels.shape[1:])
    else:
        made["pixel_values"] = [pixels[start : start + most] for start in range(0, len(pixels), most)]
    if min(counts) < most:
        mask = [[int(place < count) for place in range(most)] for count in counts]
        of_tensors = BatchFeature({"image_mask": mask}, tensor_type=_kind_of(pixels))
        made["image_mask"] = of_tensors["image_mask"]


def _kind_of(values: Any) -> str | None:
    """Tensor type of some values, as `return_tensors` calls it."""
    return "pt" if isinstance(values, torch.Tensor) else "np" if hasattr(values, "reshape") else None
