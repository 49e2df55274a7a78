"""A page of images with question, answer, truth, and where the question looked."""

import math
import os
import textwrap
from collections.abc import Sequence
from typing import Any

import torch


def attention_map(attentions: Sequence[torch.Tensor], query_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Share of attention that each cell of the image grid gets, averaged over layers, heads and question tokens.

    Shapes: B questions, S_q tokens, S_c cells plus leading class tokens, n grid side.

    Args:
        attentions: Per layer (B, heads, S_q, S_c), rows summing to 1.
        query_mask: (B, S_q), 1 for real tokens; None if all are.

    Returns:
        (B, n, n); each map sums to 1 less the share of class tokens.

    Raises:
        ValueError: If there are no attention weights.

    Example:
        >>> attention_map([torch.full((2, 4, 3, 9), 1 / 9)]).shape
        torch.Size([2, 3, 3])
    """
    if not attentions:
        raise ValueError("The fuser has no attention weights; `concat` and `average` do not attend.")
    weights = torch.stack(list(attentions)).mean(dim=(0, 2))  # (B, S_q, S_c)
    mask = torch.ones(weights.shape[:2]) if query_mask is None else query_mask.to(weights.dtype)
    share = (weights * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)  # (B, S_c)
    side = math.isqrt(share.shape[1])
    return share[:, share.shape[1] - side * side :].unflatten(1, (side, side))


def save_gallery(
    path: str | os.PathLike,
    images: Sequence[Any],
    questions: Sequence[str],
    answers: Sequence[str],
    truths: Sequence[str],
    maps: torch.Tensor,
    columns: int = 4,
) -> None:
    """Draw the gallery as a PNG: each image beside the same image under its attention map; wrong answers in red.

    Args:
        path: The PNG file.
        images: B PIL images.
        questions: One for each image.
        answers: The model's answers.
        truths: The true answers.
        maps: (B, n, n) from [`attention_map`].
        columns: Questions per row of the page.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Drawing the gallery needs matplotlib; run: pip install matplotlib") from error
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for i, (image, question, answer, truth) in enumerate(zip(images, questions, answers, truths, strict=True)):
        left, right = grid[i // columns, 2 * (i % columns)], grid[i // columns, 2 * (i % columns) + 1]
        left.imshow(image)
        left.set_title("\n".join(textwrap.wrap(question, 26)), fontsize=8)
        right.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
        extent = (0, image.width, image.height, 0)
        right.imshow(maps[i].float().cpu(), cmap="inferno", alpha=0.65, extent=extent, interpolation="bilinear")
        right.set_title(f"{answer}\n(true: {truth})", fontsize=8, color="black" if answer == truth else "red")
    figure.savefig(path, dpi=110)
