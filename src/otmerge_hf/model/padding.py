"""Padding on its way into an encoder, so that a row's tokens do not depend on what it is batched with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


_MASKS = ("attention_mask", "pixel_attention_mask")  # what encoders call the mask of their main input
# Of texts, these pool neighbours, or see them by convolution or in chunks: the last word and the first padding.
_TEXTS_WITH_PADDING = ("canine", "convbert", "funnel", "nystromformer", "reformer", "yoso")
# Of waveforms: their layers see no padding where `feat_extract_norm` is "layer". Of the others, some normalise over
# time, and some let convolutions reach into the padding.
_SEE_NO_PADDING = ("hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")


def names_of_mask(parameters: Any) -> list[str]:
    """Names under which an encoder, whose `forward` has these parameters, takes the mask of its main input."""
    return [name for name in _MASKS if name in parameters]


def depends_on_padding(encoder: Any, inputs: dict[str, torch.Tensor], masks: list[str]) -> bool:
    """Whether padding that the mask hides changes the tokens: read off the class."""
    kind = encoder.config.model_type
    if "input_ids" in inputs:
        return not masks or kind in _TEXTS_WITH_PADDING
    samples = inputs.get("input_values")
    if samples is None or samples.dim() != 2:  # spectrograms of one size
        return False
    return kind not in _SEE_NO_PADDING or encoder.config.feat_extract_norm != "layer"


def begin_left(inputs: dict[str, torch.Tensor], mask: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Move texts (B, S) that are padded on the left to the beginning: encoders count positions from there.

    Example:
        >>> ids, mask = torch.tensor([[0, 0, 7, 8]]), torch.tensor([[0, 0, 1, 1]])
        >>> moved, mask = begin_left({"input_ids": ids}, mask)
        >>> moved["input_ids"].tolist(), mask.tolist()
        ([[7, 8, 0, 0]], [[1, 1, 0, 0]])
    """
    if mask.device.type == "cpu" and not (mask[:, 0] == 0).any():
        return inputs, mask
    order = (mask == 0).to(torch.int8).argsort(dim=1, stable=True)  # (B, S)
    return {name: value.gather(1, order) for name, value in inputs.items()}, mask.gather(1, order)


def run_by_length(
    run: Callable[[dict[str, torch.Tensor]], torch.Tensor], inputs: dict[str, torch.Tensor], mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run rows of one length together, each without padding.

    Args:
        run: Turns inputs (b, T) into tokens (b, S, D).
        inputs: Of B rows, (B, T).
        mask: (B, T), 1 is real.

    Returns:
        Tokens (B, S, D) of all rows, padded with zeros to the longest, and their mask (B, S) or None (all real).
    """
    real = mask != 0
    lengths = real.sum(dim=1)
    groups = [(lengths == length).nonzero().flatten() for length in lengths.unique()]
    parts = [
        run({name: value[rows][real[rows]].view(len(rows), -1) for name, value in inputs.items()}) for rows in groups
    ]
    longest = max(part.shape[1] for part in parts)
    padded = [nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts]
    order = torch.cat(groups).argsort()
    tokens = torch.cat(padded)[order]
    if all(part.shape[1] == longest for part in parts):
        return tokens, None
    counts = torch.cat([torch.full_like(rows, part.shape[1]) for rows, part in zip(groups, parts, strict=True)])[order]
    return tokens, (torch.arange(longest, device=mask.device) < counts[:, None]).to(mask.dtype)
