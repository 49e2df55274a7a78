"""Where the shape is in an easy-VQA image, how much of a heat map lies there, and images with a second shape."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F


DIFFERENCE = 24  # of the 255 of a channel; edges are blended with the background
MARGIN = 2  # pixels around the shape that still count as inside
# questions that name what they ask about: by its colour, or by its shape
NAMING = (r"what is the (\w+) shape\?", r"what (?:color is|is the color of) the (circle|rectangle|triangle)\?")


def shape_mask(image: Image.Image) -> torch.Tensor:
    """Pixels (H, W) that differ by more than `DIFFERENCE` in a channel from the background, the corners' median.

    Example:
        >>> image = Image.new("RGB", (64, 64), "white")
        >>> image.paste("red", (10, 20, 20, 40))
        >>> shape_mask(image).sum().item()
        200
    """
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).int()  # (H, W, 3)
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
    return (pixels - corners.median(dim=0).values).abs().amax(dim=2) > DIFFERENCE


def grow(masks: torch.Tensor, margin: int = MARGIN) -> torch.Tensor:
    """Masks (B, H, W) with every pixel at most `margin` rows and columns away."""
    return F.max_pool2d(masks[:, None].float(), 2 * margin + 1, stride=1, padding=margin)[:, 0] > 0


def upsample(heat: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Heat (B, rows, columns) of cells that tile the image, bilinear between centres: (B, H, W), summing to 1."""
    whole = F.interpolate(heat[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return whole / whole.sum(dim=(1, 2), keepdim=True)


def heat_inside(heat: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Share (B,) of upsampled heat inside the grown masks (B, H, W)."""
    return (upsample(heat, masks.shape[1:]) * grow(masks)).sum(dim=(1, 2))


def pointing_hits(heat: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Whether (B,) the hottest pixel lies in the mask, not grown. Source: Zhang et al. 2016, the pointing game."""
    hottest = upsample(heat, masks.shape[1:]).flatten(1).argmax(dim=1, keepdim=True)
    return masks.flatten(1).gather(1, hottest)[:, 0]


class TwoShapes(NamedTuple):
    """A question about one of two shapes.

    Attributes:
        image: The asked-about shape where it was, and another image's shape where that was.
        question: Names the colour or the kind of one of them.
        answer: Of that one.
        other_answer: What the same question about the other would get; a different one.
        asked, other: (H, W) masks.
    """

    image: Image.Image
    question: str
    answer: str
    other_answer: str
    asked: torch.Tensor
    other: torch.Tensor


def two_shapes(rows: Sequence[dict[str, Any]], count: int) -> list[TwoShapes]:
    """Give the first `count` naming questions that have room a second shape, of the next row that fits.

    The two differ in the colour or kind that the question names, and in the answer, and are more than `2 * MARGIN`
    pixels apart.
    """
    named: list[list[tuple[str, dict[str, Any]]]] = [[], []]
    for row in rows:
        for kind, pattern in zip(named, NAMING, strict=True):
            if found := re.fullmatch(pattern, row["question"]):
                kind.append((found[1], row))
    made = []
    for i in range(max(map(len, named))):
        for kind in named:
            for name, row in kind[i + 1 : i + 40] if i < len(kind) else ():
                asked_name, asked_row = kind[i]
                if name == asked_name or row["answer"] == asked_row["answer"]:
                    continue
                asked, other = shape_mask(asked_row["image"]), shape_mask(row["image"])
                if not (grow(asked[None]) & grow(other[None])).any():
                    image = asked_row["image"].convert("RGB")
                    image.paste(row["image"], mask=Image.fromarray(other.numpy()))
                    made.append(
                        TwoShapes(image, asked_row["question"], asked_row["answer"], row["answer"], asked, other)
                    )
                    break
    return made[:count]
