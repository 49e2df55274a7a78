"""Terms of sets under gradient accumulation: the whole window as one cloud, not one cloud per micro-batch."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.state import GradientState

from ..model.modeling_otmerge import OTMergeModel, OTMergeOutput


class AccumulationWindow:
    """Gives terms of sets the union of a window's micro-batches, so that 4 x 2 rows teach what 1 x 8 rows do.

    A transport plan needs all points at once, but each micro-batch's graph is gone after its backward. So the tokens
    that entered the adapters are kept (no graph), and with the window's last micro-batch the earlier ones go through
    the adapters once more: a small cost, since encoders are frozen. The earlier micro-batches contribute nothing, the
    last one `length * term(union)`, because Trainer divides every loss by the window's length.

    Args:
        model: The base model whose adapters are used.
    """

    def __init__(self, model: OTMergeModel):
        self._embed: Callable[..., tuple[torch.Tensor, torch.Tensor]] = model.embed_tokens
        self._kept: list[tuple[torch.Tensor | None, ...]] = []

    def __call__(self, term: Callable[[Any], torch.Tensor], outputs: OTMergeOutput) -> tuple[torch.Tensor | None, int]:
        """Value of `term` for the whole window and the window's length; None before its last micro-batch."""
        if not GradientState().sync_gradients:
            kept = (outputs.context_tokens, outputs.query_tokens, outputs.context_mask, outputs.query_mask)
            self._kept.append(tuple(None if t is None else t.detach() for t in kept))
            return None, len(self._kept)
        earlier, self._kept = self._kept, []
        embeds = [self._embed(*tensors) for tensors in earlier] + [(outputs.context_embeds, outputs.query_embeds)]
        context, query = (torch.cat(side) for side in zip(*embeds, strict=True))
        return term(OTMergeOutput(context_embeds=context, query_embeds=query)), len(embeds)
