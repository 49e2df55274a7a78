"""How well the decoders return from the shared space to the encoders' own."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .points import in_float32
from .term import LossTerm


@in_float32
def reconstruction_loss(
    reconstruction: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    r"""Mean squared error per feature of the real tokens, each row weighing the same; 1 for answering the mean.

    $$ L = \frac1B \sum_i \frac1{S_i D} \sum_{s \le S_i} \lVert g(f(x_{is})) - x_{is} \rVert^2 $$

    Args:
        reconstruction: (B, S, D), the decoder's output for B rows of S tokens in the encoder's width D.
        tokens: (B, S, D), the standardised features that the adapter received.
        mask: (B, S), 1 for real tokens; None if all are.

    Example:
        >>> reconstruction_loss(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.tensor([[1, 0]])).item()
        1.0
    """
    if reconstruction.shape != tokens.shape:
        raise ValueError(
            f"`reconstruction` {tuple(reconstruction.shape)} and `tokens` {tuple(tokens.shape)} must have one shape."
        )
    error = (reconstruction - tokens).square().mean(dim=-1)  # (B, S)
    if mask is None:
        return error.mean()
    weight = mask.to(error.dtype)
    return ((error * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)).mean()


@dataclass
class ReconstructionTerm(LossTerm):
    """[`reconstruction_loss`] of both sides, averaged; needs `reconstruction=True` in the configuration."""

    name: ClassVar[str] = "reconstruction"
    batch_level: ClassVar[bool] = False
    needs_reconstruction: ClassVar[bool] = True

    def __call__(self, outputs: Any) -> torch.Tensor:
        context = reconstruction_loss(outputs.context_reconstruction, outputs.context_tokens, outputs.context_mask)
        query = reconstruction_loss(outputs.query_reconstruction, outputs.query_tokens, outputs.query_mask)
        return (context + query) / 2

    def check(self, model: Any) -> None:
        if not model.config.reconstruction:
            raise ValueError("The reconstruction term needs decoders: build the model with `reconstruction=True`.")
