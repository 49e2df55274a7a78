"""Two linear heads on pooled features of frozen encoders, trained by one sum of losses.

In: standardised features by split, captions of the training pictures. Out: mean Recall@1 on validation and test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otmerge_hf.alignment import CCA
from otmerge_hf.losses import contrastive_loss, klot_loss, paired_loss, sinkhorn_loss, structure_loss, variance_loss
from otmerge_hf.metrics import retrieval


@dataclass
class Batch:
    """What a loss may look at: shared embeddings, the features under them, and the closed form's cosines."""

    context: Tensor
    query: Tensor
    features: tuple[Tensor, Tensor]
    teacher: Tensor
    scale: Tensor


def infonce(batch: Batch) -> Tensor:
    """InfoNCE of the batch's pairs."""
    return contrastive_loss(batch.context, batch.query, batch.scale)


def siglip(batch: Batch) -> Tensor:
    """The sigmoid form of it."""
    return contrastive_loss(batch.context, batch.query, batch.scale, variant="siglip")


def paired(batch: Batch) -> Tensor:
    """Squared distance of pairs, and a floor under the spread of both sides."""
    width = batch.context.shape[1]
    x, y = (side * width**0.5 for side in (batch.context, batch.query))  # the floor is one per coordinate
    return paired_loss(x, y) / width + variance_loss(x) + variance_loss(y)


def sinkhorn(batch: Batch) -> Tensor:
    """Sinkhorn divergence of the normalised clouds."""
    return sinkhorn_loss(batch.context, batch.query, normalize=True)


def klot(batch: Batch) -> Tensor:
    """The heads' cosines against the closed form's."""
    return klot_loss(_cosines(batch.context, batch.query), batch.teacher)


def structure(batch: Batch) -> Tensor:
    """Each side's distances before and after its head."""
    return structure_loss(batch.features[0], batch.context) + structure_loss(batch.features[1], batch.query)


#: Name in the report -> terms and their weights.
LOSSES: dict[str, dict[Callable[[Batch], Tensor], float]] = {
    "paired + variance": {paired: 1.0},
    "contrastive (InfoNCE)": {infonce: 1.0},
    "contrastive (SigLIP)": {siglip: 1.0},
    "contrastive + 0.1 Sinkhorn": {infonce: 1.0, sinkhorn: 0.1},
    "contrastive + 1 Sinkhorn": {infonce: 1.0, sinkhorn: 1.0},
    "contrastive + 0.3 KLOT": {infonce: 1.0, klot: 0.3},
    "contrastive + 1 structure": {infonce: 1.0, structure: 1.0},
}


def train(
    images: dict[str, Tensor],
    captions: list[Tensor],
    texts: dict[str, Tensor],
    loss: dict[Callable[[Batch], Tensor], float],
    seed: int,
    *,
    dropout: float,
    steps: int = 400,
    batch_size: int = 512,
    learning_rate: float = 5e-4,
) -> dict[str, Any]:
    """Begin at the closed form (CCA on all captions) and go on by gradient, with dropout on the features.

    Args:
        images: Features by split, (N, D).
        captions: Training texts, one tensor (N, 384) for each way of saying it.
        texts: Features of what is asked at validation and test.
        loss: Terms and weights.
        seed: Of batches, captions and dropout.
        dropout: Share of the features that a step does not see.
        steps: Of AdamW, on a cosine schedule.
        batch_size: Pairs a step.
        learning_rate: At its peak.
    """
    torch.manual_seed(seed)
    captioned, count = torch.stack(captions), len(images["train"])
    fit = CCA(1.0, correlation_weight=0.5, shared_dim=384)
    fit.fit(images["train"].repeat(len(captioned), 1), captioned.flatten(0, 1))
    heads = [_head(fit.context_map_, images["train"]), _head(fit.query_map_, captioned[0])]
    scale = nn.Parameter(torch.tensor(15.0).log())
    weights = [parameter for head in heads for parameter in head.parameters()]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": [scale], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randperm(count)[:batch_size]
        x, y = images["train"][rows], captioned[torch.randint(len(captioned), (len(rows),)), rows]
        teacher = _cosines(fit.transform_context(x), fit.transform_query(y))
        dropped = [F.dropout(features, dropout) for features in (x, y)]
        context, query = (head(features) for head, features in zip(heads, dropped, strict=True))
        batch = Batch(context, query, (x, y), teacher, scale.exp())
        total = torch.stack([weight * term(batch) for term, weight in loss.items()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = {s: retrieval(heads[0](images[s]), heads[1](texts[s])) for s in ("validation", "test")}
    start = {s: retrieval(fit.transform_context(images[s]), fit.transform_query(texts[s])) for s in found}
    return {split: measured["mean_recall@1"] for split, measured in found.items()} | {
        "start": {split: measured["mean_recall@1"] for split, measured in start.items()}
    }


def _head(fitted: Any, features: Tensor) -> nn.Linear:
    """The closed form's map as a layer, scaled so that its outputs have length one on average."""
    head = nn.Linear(fitted.weight.shape[1], fitted.weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(fitted.weight)
        head.bias.copy_(fitted.bias)
        length = head(features).norm(dim=1).mean()
        head.weight.div_(length)
        head.bias.div_(length)
    return head


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    return F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T
