"""What a batch-level loss is given: the rows of several micro-batches and, by all-gather, of all processes."""

import torch

from ..model.fusers import masked_mean
from ..model.modeling_otmerge import OTMergeOutput
from ..transport import gather_clouds


_CLOUDS = ("context_embeds", "query_embeds", "context_tokens", "query_tokens")
_ROWS = ("pair_mask", "group_ids")


def as_points(
    outputs: OTMergeOutput, embeds: tuple[torch.Tensor, torch.Tensor] | None = None, tokens: bool = False
) -> OTMergeOutput:
    """Reduce outputs to what has one row per input: embeddings, `pair_mask`, `group_ids` and the tokens' means.

    `embeds`, (B, D) of both sides, replace the outputs' own. The means are kept if `tokens`, as (B, 1, D_side).
    """
    context, query = embeds or (outputs.context_embeds, outputs.query_embeds)
    points = {"context_embeds": context, "query_embeds": query, "logit_scale": outputs.logit_scale}
    points |= {name: getattr(outputs, name) for name in _ROWS}
    for side in ("context", "query") if tokens else ():
        mean = masked_mean(getattr(outputs, f"{side}_tokens"), getattr(outputs, f"{side}_mask"))
        points[f"{side}_tokens"] = mean.detach()[:, None]
    return OTMergeOutput(**points)


def join_points(parts: list[OTMergeOutput]) -> OTMergeOutput:
    """Concatenate the points of several micro-batches; the learned scale is the last one's.

    Raises:
        ValueError: If some parts have a `pair_mask` or `group_ids` and others have none.
    """
    joined = {"logit_scale": parts[-1].logit_scale}
    for name in (*_CLOUDS, *_ROWS):
        tensors = [getattr(part, name) for part in parts]
        known = [tensor for tensor in tensors if tensor is not None]
        if known and len(known) != len(tensors):
            raise ValueError(f"`{name}` is in {len(known)} of {len(tensors)} micro-batches; expected all or none.")
        if known:
            joined[name] = torch.cat(known)
    return OTMergeOutput(**joined)


def gather_points(points: OTMergeOutput) -> OTMergeOutput:
    """All-gather the points, in order of rank, with gradient; every process has to call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return points
    gathered = {"logit_scale": points.logit_scale}
    for name in _CLOUDS:
        cloud = getattr(points, name)
        if cloud is not None:
            gathered[name] = gather_clouds(cloud.flatten(1))[0].unflatten(1, cloud.shape[1:])
    for name in _ROWS:
        rows = getattr(points, name)
        if rows is not None:  # float64 holds integers exactly up to 2^53
            gathered[name] = gather_clouds(rows.double()[:, None])[0][:, 0].long()
    return OTMergeOutput(**gathered)
