"""Neighbours in an encoder's own space stay neighbours in the shared space."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .points import check_positive, in_float32, token_means, unit
from .term import LossTerm


@in_float32
def structure_loss(
    features: torch.Tensor, embeds: torch.Tensor, temperature: float = 0.1, levels: int = 1
) -> torch.Tensor:
    r"""Divergence between the neighbourhoods of one side before and after its adapter; in [0, log 2] nats.

    $$ P(z) = \operatorname{softmax}\big(\bar z \bar z^\top / \tau\big), \quad
       \bar z_i = \frac{z_i}{\lVert z_i \rVert} - \operatorname{mean}_j \frac{z_j}{\lVert z_j \rVert} $$
    $$ L = \frac1L \sum_{l=1}^{L} \frac1l \cdot
       \frac1B \sum_i \operatorname{JS}\big(P(x)^l_i, P(f(x))^l_i\big) $$

    Row i of P is the chance of walking from point i to each point; its powers look further than direct neighbours.
    A regulariser that needs no pairs and says nothing about the other side: use it with few pairs, beside a term that
    aligns. Not minimal on collapsed embeddings, though its gradient vanishes exactly there.

    Args:
        features: (B, D_side), means of the encoder's tokens; no gradient flows to them.
        embeds: (B, D), their shared embeddings.
        temperature: tau, in units of the cosine.
        levels: L, the number of powers.

    Example:
        >>> x = torch.randn(6, 3)
        >>> abs(structure_loss(x, 5 * x.flip(1)).item()) < 1e-5  # mirrored and scaled: the same neighbours
        True

    Source: Gröger et al. 2025 (STRUCTURE, NeurIPS), with the mixture as the second argument of both
    Kullback-Leibler terms, as Jensen and Shannon have it.
    """
    if features.dim() != 2 or embeds.dim() != 2 or len(features) != len(embeds) or len(embeds) == 0:
        shapes = f"`features` {tuple(features.shape)} and `embeds` {tuple(embeds.shape)}"
        raise ValueError(f"{shapes} must be matrices with one row per point.")
    check_positive(temperature, "temperature")
    if levels < 1:
        raise ValueError(f"`levels` is {levels}; expected at least 1.")
    before, after = _walk(features.detach(), temperature), _walk(embeds, temperature)
    power_before, power_after, total = before, after, embeds.new_zeros(())
    for level in range(1, levels + 1):
        if level > 1:
            power_before, power_after = power_before @ before, power_after @ after
        total = total + _jensen_shannon(power_before, power_after).mean() / level
    return total / levels


def _walk(points: torch.Tensor, temperature: float) -> torch.Tensor:
    directions = unit(points)
    directions = directions - directions.mean(dim=0)
    return torch.softmax(directions @ directions.T / temperature, dim=-1)  # (B, B)


def _jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence of the rows, (B,)."""
    tiny = torch.finfo(p.dtype).tiny
    log_p, log_q = p.clamp(min=tiny).log(), q.clamp(min=tiny).log()
    log_mixture = ((p + q) / 2).clamp(min=tiny).log()
    return (p * (log_p - log_mixture) + q * (log_q - log_mixture)).sum(dim=-1) / 2


@dataclass
class StructureTerm(LossTerm):
    """[`structure_loss`] of both sides, averaged, over all rows, paired or not."""

    temperature: float = 0.1
    levels: int = 1
    name: ClassVar[str] = "structure"
    needs_tokens: ClassVar[bool] = True

    def __call__(self, outputs: Any) -> torch.Tensor:
        context, query = token_means(outputs)
        context_loss = structure_loss(context, outputs.context_embeds, self.temperature, self.levels)
        return (context_loss + structure_loss(query, outputs.query_embeds, self.temperature, self.levels)) / 2
