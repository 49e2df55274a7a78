"""Batch-level losses under gradient accumulation: one batch of all micro-batches, not one value each."""

from collections.abc import Callable

import torch
from accelerate.state import GradientState

from ..model.modeling_otmerge import OTMergeModel, OTMergeOutput
from .gather import as_points, join_points


_KEPT = ("context_tokens", "query_tokens", "context_mask", "query_mask", "pair_mask", "group_ids")


class AccumulationWindow:
    """Gives a batch-level loss the rows of all micro-batches of an optimizer step: 4 x 2 rows teach what 1 x 8 do.

    A transport plan needs all points at once, but each micro-batch's graph is gone after its backward. So the tokens
    that entered the adapters are kept, without a graph. With the last micro-batch of the window the earlier ones go
    through the adapters once more: a small cost, since encoders are frozen. The earlier micro-batches add 0 to the
    loss, the last one adds `length * term(all rows)`, because Trainer divides every loss by the window's length.
    """

    def __init__(self, model: OTMergeModel):
        self._embed: Callable[..., tuple[torch.Tensor, torch.Tensor]] = model.embed_tokens
        self._kept: list[OTMergeOutput] = []

    def __call__(self, outputs: OTMergeOutput, tokens: bool = False) -> tuple[OTMergeOutput | None, int]:
        """Points of the whole window and its length; None before its last micro-batch. `tokens` as in `as_points`."""
        if not GradientState().sync_gradients:
            kept = {name: getattr(outputs, name) for name in _KEPT}
            self._kept.append(OTMergeOutput(**{k: None if t is None else t.detach() for k, t in kept.items()}))
            return None, len(self._kept)
        earlier, self._kept = self._kept, []
        parts = [as_points(part, self._embed_again(part), tokens) for part in earlier]
        parts.append(as_points(outputs, tokens=tokens))
        return join_points(parts), len(parts)

    def _embed_again(self, part: OTMergeOutput) -> tuple[torch.Tensor, torch.Tensor]:
        _, context = self._embed("context", part.context_tokens, part.context_mask)
        _, query = self._embed("query", part.query_tokens, part.query_mask)
        return context, query
