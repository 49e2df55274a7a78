"""A page of images with question, answer, truth, and where the answer comes from."""

import math
import os
import textwrap
from collections.abc import Sequence
from typing import Any

import torch

from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from .explanations import EXPLANATIONS, Inputs


def save_gallery(
    path: str | os.PathLike,
    images: Sequence[Any],
    questions: Sequence[str],
    answers: Sequence[str],
    truths: Sequence[str],
    maps: torch.Tensor | None = None,
    columns: int = 4,
    *,
    model: OTMergeForQuestionAnswering | None = None,
    inputs: Inputs | None = None,
    explanation: str = "occlusion",
) -> None:
    """Draw the gallery as a PNG: each image beside the same image under its heat; wrong answers in red.

    Args:
        path: The PNG file.
        images: B PIL images.
        questions: One for each image.
        answers: The model's answers.
        truths: The true answers.
        maps: (B, rows, columns) of heat, ready; made from `model` and `inputs` when None.
        columns: Questions per row of the page.
        model: The trained merge that answered, in `eval()`.
        inputs: What its processor made of the images and questions.
        explanation: Name in [`explanations.EXPLANATIONS`] of how the maps are made.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there are neither maps nor a model with inputs, or the explanation has no such name.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Drawing the gallery needs matplotlib; run: pip install matplotlib") from error
    if maps is None:
        if model is None or inputs is None:
            raise ValueError("`maps` is None; pass `model` and `inputs`, of which they are made.")
        if explanation not in EXPLANATIONS:
            raise ValueError(f"`explanation` is {explanation!r}; expected one of {', '.join(EXPLANATIONS)}.")
        maps = EXPLANATIONS[explanation](model, inputs)
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(3.6 * columns, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for i, (image, question, answer, truth) in enumerate(zip(images, questions, answers, truths, strict=True)):
        left, right = grid[i // columns, 2 * (i % columns)], grid[i // columns, 2 * (i % columns) + 1]
        left.imshow(image)
        left.set_title("\n".join(textwrap.wrap(question, 26)), fontsize=8, parse_math=False)
        right.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
        extent = (0, image.width, image.height, 0)
        right.imshow(maps[i].float().cpu(), cmap="inferno", alpha=0.65, extent=extent, interpolation="bilinear")
        color = "black" if answer == truth else "red"
        right.set_title(f"{answer}\n(true: {truth})", fontsize=8, color=color, parse_math=False)
    figure.savefig(path, dpi=110)
