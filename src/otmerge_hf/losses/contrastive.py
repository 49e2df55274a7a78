"""Each pair against the other pairs of the batch: InfoNCE and SigLIP."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from .points import check_choice, check_same_shape, connected_zero, in_float32, pair_rows, unit
from .term import LossTerm


VARIANTS = ("infonce", "siglip")


@in_float32
def contrastive_loss(
    context_embeds: torch.Tensor,
    query_embeds: torch.Tensor,
    scale: float | torch.Tensor = 1 / 0.07,
    group_ids: torch.Tensor | None = None,
    variant: str = "infonce",
    bias: float = -10.0,
) -> torch.Tensor:
    r"""Tell each pair from all other combinations in the batch; in nats.

    $$ z_{ij} = t \cos(x_i, y_j), \quad
       L_\text{InfoNCE} = -\frac{1}{2B} \sum_i
       \Big(\log\frac{e^{z_{ii}}}{\sum_j e^{z_{ij}}} + \log\frac{e^{z_{ii}}}{\sum_j e^{z_{ji}}}\Big) $$
    $$ L_\text{SigLIP} = -\frac1B \sum_{ij} \log\sigma\big(s_{ij} (z_{ij} + b)\big),
       \quad s_{ii} = 1,\ s_{i \ne j} = -1 $$

    The term to prefer when there are many pairs (arXiv 2602.23353: from 100k on, unpaired points added nothing).
    InfoNCE wants large batches; SigLIP bears small ones, and its value grows with B. Never minimal on collapsed
    embeddings.

    Args:
        context_embeds, query_embeds: (B, D), row i belonging to row i; the loss is zero if there are no rows.
        scale: t, the inverse temperature, a number or a scalar tensor (a learned one gets its gradient).
        group_ids: (B,) integers. Combinations of one group (captions of one image, a pair drawn twice) are neither
            positives nor negatives. None: all rows differ.
        variant: `"infonce"`, symmetric softmax over the batch, or `"siglip"`, a logistic loss per combination.
        bias: b of SigLIP, in logits.

    Example:
        >>> x = torch.eye(2)
        >>> round(contrastive_loss(x, x, scale=1.0).item(), 4)  # log(1 + exp(-1))
        0.3133

    Source: van den Oord et al. 2018, equation 4, symmetric as in Radford et al. 2021; Zhai et al. 2023 (SigLIP),
    section 3.2, divided by B.
    """
    check_same_shape(context_embeds, query_embeds)
    check_choice(variant, VARIANTS, "variant")
    count = len(context_embeds)
    if count == 0:
        return connected_zero(context_embeds, query_embeds)
    if isinstance(scale, torch.Tensor):
        if scale.numel() != 1:
            raise ValueError(f"`scale` has shape {tuple(scale.shape)}; expected one number.")
        scale = scale.reshape(()).to(context_embeds.dtype)
    logits = (scale * unit(context_embeds)) @ unit(query_embeds).T  # (B, B); scaled first: D < B in large batches
    own = torch.eye(count, dtype=torch.bool, device=logits.device)
    ignored = torch.zeros_like(own)
    if group_ids is not None:
        if group_ids.shape != (count,):
            raise ValueError(f"`group_ids` has shape {tuple(group_ids.shape)}; expected ({count},).")
        ignored = (group_ids[:, None] == group_ids[None, :]) & ~own
    if variant == "infonce":
        if group_ids is not None:
            logits = logits.masked_fill_(ignored, float("-inf"))  # in place: nothing else reads these
        target = torch.arange(count, device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    signed = torch.where(own, logits + bias, -(logits + bias))
    return -F.logsigmoid(signed).masked_fill(ignored, 0.0).sum() / count


@dataclass
class ContrastiveTerm(LossTerm):
    """[`contrastive_loss`] of the rows that are pairs; negatives come from the whole batch, of all ranks.

    A `temperature` of None uses the model's, which then learns; `bias`, in logits, is fixed.
    """

    variant: str = "infonce"
    temperature: float | None = None
    bias: float = -10.0
    name: ClassVar[str] = "contrastive"

    def __call__(self, outputs: Any) -> torch.Tensor:
        context, query, groups = pair_rows(outputs)
        scale = outputs.logit_scale if self.temperature is None else 1 / self.temperature
        return contrastive_loss(context, query, scale, groups, self.variant, self.bias)

    @property
    def uses_temperature(self) -> bool:
        return self.temperature is None

    def check(self, model: Any) -> None:
        check_choice(self.variant, VARIANTS, "variant")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"`temperature` is {self.temperature}; expected a positive number or None.")
