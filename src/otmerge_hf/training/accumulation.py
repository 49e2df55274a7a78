"""Batch-level losses under gradient accumulation: one batch of all micro-batches, not one value each."""

import torch
from accelerate.state import GradientState
from torch.utils.checkpoint import checkpoint

from ..model.modality import FORWARD_INPUTS, SIDES
from ..model.modeling_otmerge import OTMergeModel, OTMergeOutput
from .gather import as_points, join_points


_KEPT = ("context_tokens", "query_tokens", "context_mask", "query_mask", "pair_mask", "group_ids")


class AccumulationWindow:
    """Gives a batch-level loss the rows of all micro-batches of an optimizer step: 4 x 2 rows teach what 1 x 8 do.

    A transport plan needs all points at once, but each micro-batch's graph is gone after its backward. So the tokens
    that entered the adapters are kept, without a graph. With the last micro-batch of the window the earlier ones go
    through the adapters once more: a small cost, where encoders are frozen. An encoder that learns, as under LoRA, is
    run again too, from the inputs that were kept, one micro-batch's activations in memory at a time. The earlier
    micro-batches add 0 to the loss, the last one adds `length * term(all rows)`, because Trainer divides every loss by
    the window's length.

    Attributes:
        inputs: The present micro-batch, as Trainer gives it to the model.
    """

    def __init__(self, model: OTMergeModel):
        self.inputs: dict[str, torch.Tensor] = {}
        self._model = model
        encoders = {side: model.get_submodule(f"{side}_encoder") for side in SIDES}
        self._learning = [side for side in SIDES if any(p.requires_grad for p in encoders[side].parameters())]
        self._kept: list[tuple[OTMergeOutput, dict[str, torch.Tensor | None]]] = []

    def __call__(self, outputs: OTMergeOutput, tokens: bool = False) -> tuple[OTMergeOutput | None, int]:
        """Points of the whole window and its length; None before its last micro-batch. `tokens` as in `as_points`."""
        if not GradientState().sync_gradients:
            kept = {name: getattr(outputs, name) for name in _KEPT}
            part = OTMergeOutput(**{k: None if t is None else t.detach() for k, t in kept.items()})
            self._kept.append((part, {k: self.inputs.get(k) for k in FORWARD_INPUTS if self._learning}))
            return None, len(self._kept)
        earlier, self._kept = self._kept, []
        parts = [as_points(part, self._embed_again(part, inputs), tokens) for part, inputs in earlier]
        parts.append(as_points(outputs, tokens=tokens))
        return join_points(parts), len(parts)

    def _embed_again(self, part: OTMergeOutput, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        reads = dict(zip(SIDES, self._model.read_inputs(inputs), strict=True)) if self._learning else {}
        embeds = []
        for side in SIDES:
            if side in self._learning:
                embeds.append(checkpoint(self._model.embed_side, side, *reads[side], use_reentrant=False).embeds)
            else:
                tokens, mask = getattr(part, f"{side}_tokens"), getattr(part, f"{side}_mask")
                embeds.append(self._model.embed_tokens(side, tokens, mask)[1])
        return embeds[0], embeds[1]
