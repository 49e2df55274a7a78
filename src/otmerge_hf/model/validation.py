"""Checks at the model's doors: what came, what was expected, in one line, before any work is lost.

Values are looked at on the CPU only: on an accelerator each look would stall the device.
"""

import torch
from transformers import PreTrainedModel


def pick_context_input(
    encoder: PreTrainedModel,
    features: torch.Tensor | None,
    pixel_values: torch.Tensor | None,
    input_features: torch.Tensor | None,
    input_values: torch.Tensor | None,
    context_input_ids: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """Find the input that the context encoder takes among those given; nothing is needed with features."""
    if features is not None:
        return {}
    given = {
        "pixel_values": pixel_values,
        "input_features": input_features,
        "input_values": input_values,
        "input_ids": context_input_ids,
    }
    wanted = encoder.main_input_name
    value = given.get(wanted)
    if value is None:
        public = {"input_ids": "context_input_ids"}
        came = [public.get(name, name) for name, value in given.items() if value is not None]
        raise ValueError(
            f"The context side is missing: a `{encoder.config.model_type}` encoder takes "
            f"`{public.get(wanted, wanted)}` (or `context_features`), got {', '.join(came) or 'none'}."
        )
    check_finite(value, wanted)
    return {wanted: value}


def require_query(encoder: PreTrainedModel, features: torch.Tensor | None, input_ids: torch.Tensor | None) -> None:
    """Check that there is a query, that it has tokens, and that the encoder knows them."""
    if features is not None:
        return
    if encoder.main_input_name != "input_ids":
        raise ValueError(
            f"The query encoder is a `{encoder.config.model_type}`, which takes `{encoder.main_input_name}`; "
            "expected a text encoder (are context and query exchanged?)."
        )
    if input_ids is None:
        raise ValueError("The query side is missing: pass `input_ids` (or `query_features`).")
    if input_ids.dim() != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"`input_ids` has shape {tuple(input_ids.shape)}; expected (batch, at least one token).")
    vocab_size = getattr(encoder.config, "vocab_size", None)
    if not (vocab_size and _readable(input_ids) and input_ids.numel()):
        return
    for token in (int(input_ids.max()), int(input_ids.min())):
        if not 0 <= token < vocab_size:
            raise ValueError(
                f"`input_ids` holds token {token}, the query encoder knows 0 to {vocab_size - 1}: "
                "the tokenizer belongs to another model."
            )


def check_features(features: torch.Tensor, mask: torch.Tensor | None, side: str, dim: int) -> None:
    """Check the shape of one side's tokens and of their mask."""
    if features.dim() != 3 or features.shape[-1] != dim or features.shape[1] == 0:
        raise ValueError(
            f"`{side}_features` has shape {tuple(features.shape)}; expected (batch, at least one token, {dim})."
        )
    if mask is not None and mask.shape != features.shape[:2]:
        # (B, 1) or (1, S) would broadcast without a word
        raise ValueError(
            f"The mask of `{side}_features` has shape {tuple(mask.shape)}; expected {tuple(features.shape[:2])}."
        )
    check_finite(features, f"{side}_features")


def check_finite(values: torch.Tensor, name: str) -> None:
    """Refuse NaN and infinity; one bad row would spoil a whole batch's transport plan and every weight after it."""
    if not (values.is_floating_point() and _readable(values)) or torch.isfinite(values.sum()):
        return  # the sum is finite only if every value is, and is much cheaper to make
    if not torch.isfinite(values).all():
        rows = (~torch.isfinite(values)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"`{name}` holds NaN or infinite values in rows {rows[:8]}; check those inputs.")


def check_labels(labels: torch.Tensor, logits: torch.Tensor) -> None:
    """Check that labels are answer indices, or one soft score per answer."""
    batch, num_labels = logits.shape
    if labels.shape not in ((batch,), (batch, num_labels)):
        raise ValueError(
            f"`labels` has shape {tuple(labels.shape)}; expected ({batch},) answer indices or "
            f"({batch}, {num_labels}) soft targets."
        )
    if labels.dim() == 1 and labels.is_floating_point():
        raise ValueError(f"`labels` of shape ({batch},) are {labels.dtype}; expected answer indices (torch.long).")
    if not _readable(labels):
        return
    if labels.dim() == 1:
        wrong = ((labels < 0) | (labels >= num_labels)) & (labels != -100)
        expected = f"indices from 0 to {num_labels - 1} (or -100 to ignore)"
    else:
        wrong, expected = ~((labels >= 0) & (labels <= 1)), "scores from 0 to 1"
    if wrong.any():
        raise ValueError(f"`labels` holds {labels[wrong][0].item()}; expected {expected}.")


def _readable(values: torch.Tensor) -> bool:
    return values.device.type == "cpu" and not torch.compiler.is_compiling()
