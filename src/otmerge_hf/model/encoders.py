"""Any pretrained encoder as a source of tokens: built from its configuration, called with the inputs it knows."""

import copy
import inspect
import os
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from .configuration_otmerge import hidden_layers
from .padding import begin_left, depends_on_padding, names_of_mask, run_by_length
from .sources import describe_encoder
from .validation import name_inputs


_CHANNELS_LAST = ("dinat", "edgetam_vision_model", "sam2_hiera_det_model", "sam2_vision_model")  # (B, H, W, D)


class NoSuchTokensError(ValueError):
    """An encoder does not have the tokens that are selected."""


class LoadedEncoder(NamedTuple):
    """A pretrained encoder, and the configuration from which [`build_encoder`] makes it again."""

    encoder: PreTrainedModel
    config: PreTrainedConfig
    source: dict[str, Any]  # the record of [`describe_encoder`]


def load_encoder(
    source: str | os.PathLike | PreTrainedModel, side: str, options: dict[str, Any] | None = None
) -> LoadedEncoder:
    """Load the encoder of one side by name, folder or instance; options of its `from_pretrained`.

    Raises:
        OSError: If it is not found.
        ValueError: If it is no encoder.
    """
    model, missing = _load_model(source, side, options)
    encoder = encoder_part(model, side)
    record = describe_encoder(source, model, encoder, options or {}, missing)
    return LoadedEncoder(encoder, rebuildable_config(model, side), record)


def load_encoders(
    sources: dict[str, str | os.PathLike | PreTrainedModel], options: dict[str, dict | None]
) -> dict[str, LoadedEncoder]:
    """Load the encoders of both sides; see [`load_encoder`]."""
    loaded = {side: load_encoder(source, side, options[side]) for side, source in sources.items()}
    if loaded["query"].encoder is loaded["context"].encoder:  # one module in two places could not be saved
        loaded["query"] = loaded["query"]._replace(encoder=copy.deepcopy(loaded["query"].encoder))
    return loaded


def _load_model(
    source: str | os.PathLike | PreTrainedModel, side: str, options: dict | None
) -> tuple[PreTrainedModel, set[str]]:
    """Load one side's model, which may be more than an encoder; and name its tensors that were not in the source."""
    if isinstance(source, PreTrainedModel):
        return source, set()
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"`{side}` is a {type(source).__name__}; expected a name, a folder or a model.")
    # One precision for both: a half-precision encoder would otherwise decide how the whole merge is reloaded.
    options = {"dtype": torch.float32} | (options or {})
    try:
        model, info = AutoModel.from_pretrained(source, output_loading_info=True, **options)
        return model, set(info["missing_keys"])
    except (OSError, ValueError) as error:
        found, reason = f"`{side}={str(source)!r}` is", str(error).splitlines()[0]
        if isinstance(error, OSError):
            nowhere = "neither a folder with a saved model nor a model on the Hub that can be reached"
            raise OSError(f"{found} {nowhere} ({reason})") from error
        raise ValueError(f"{found} no encoder that transformers can load ({reason})") from error


def build_encoder(config: PreTrainedConfig, side: str) -> PreTrainedModel:
    """Make a randomly initialised encoder; weights come later, from the merged checkpoint."""
    return encoder_part(AutoModel.from_config(config), side)


def encoder_part(model: PreTrainedModel, side: str) -> PreTrainedModel:
    """Take the part of a model that encodes: the encoder of an encoder-decoder, one tower of a two-tower model."""
    if hasattr(model, "text_model"):
        for name in ("vision_model", "audio_model") if side == "context" else ("text_model",):
            if isinstance(tower := getattr(model, name, None), PreTrainedModel):
                return tower
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    # T5's encoder-only classes keep the encoder under the same name, in a configuration that says nothing of it
    encoder = getattr(model, "encoder", None)
    wraps_encoder = hasattr(model, "decoder") or type(model).__name__.endswith("EncoderModel")
    return encoder if wraps_encoder and isinstance(encoder, PreTrainedModel) else model


def rebuildable_config(model: PreTrainedModel, side: str) -> PreTrainedConfig:
    """Return the configuration from which [`build_encoder`] makes `encoder_part(model, side)` again.

    It is the part's own, unless `AutoModel` does not know its type (SigLIP's text tower); then the whole model's.
    """
    part = encoder_part(model, side)
    return part.config if type(part.config) in AutoModel._model_mapping else model.config


def run_encoder(
    encoder: PreTrainedModel,
    inputs: dict[str, torch.Tensor | None],
    tokens: str | int,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run an encoder and take the selected tokens.

    Shapes: B batch, S tokens, D width of the encoder, H x W a feature map's size.

    Args:
        encoder: Any encoder.
        inputs: Its keyword arguments; `None` values are left out. `pixel_values` (B, n, C, H, W) are n images a row:
            each is encoded by itself, and their tokens follow one another.
        tokens: `"last_hidden_state"`, `"cls"` (the first real token), `"pooled"`, a hidden layer's index, or several
            joined, `"0+3+6"`, whose widths add up.
        mask: (B, S) of text or patches, (B, samples) of audio, (B, n) of several images; 1 is real. Left out for
            encoders that take none.

    Returns:
        Tokens (B, S, D), a map (B, D, H, W) flattened to S = H * W, and their mask (B, S) or None (all real). Those of
        texts begin at the left, wherever padding was; padding does not change them (see `padding`).

    Raises:
        NoSuchTokensError: If the encoder has no such tokens.
    """
    given = {name: value for name, value in inputs.items() if value is not None}
    pixels = given.get("pixel_values")
    if pixels is not None and pixels.dim() == 5:
        each, _ = run_encoder(encoder, {"pixel_values": pixels.flatten(0, 1)}, tokens)  # (B * n, S, D)
        mask = None if mask is None else mask.repeat_interleave(each.shape[1], dim=1)
        return each.unflatten(0, pixels.shape[:2]).flatten(1, 2), mask
    given = {name: value.to(encoder.dtype) if value.is_floating_point() else value for name, value in given.items()}
    if mask is not None:
        names = names_of_mask(inspect.signature(encoder.forward).parameters)
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            if "input_ids" in given:
                given, mask = begin_left(given, mask)
            if depends_on_padding(encoder, given, names) and not mask.all():
                return run_by_length(lambda rows: run_encoder(encoder, rows, tokens)[0], given, mask)
        if not names:
            mask = None  # images, and spectrograms cut into patches: every token is real
        given |= dict.fromkeys(names, mask)
    if encoder.config.model_type == "vit_mae":  # by itself it drops 75% of the patches, in eval() too, and shuffles
        encoder.config.mask_ratio = 0.0
        order = torch.arange(encoder.embeddings.patch_embeddings.num_patches, device=encoder.device)
        given["noise"] = order.expand(given["pixel_values"].shape[0], -1)
    by_layer = bool(hidden_layers(tokens))
    with name_inputs(encoder, given):
        outputs = encoder(**given, return_dict=True, **({"output_hidden_states": True} if by_layer else {}))
    return select_tokens(encoder, outputs, tokens, mask)


def select_tokens(
    encoder: PreTrainedModel, outputs: Any, tokens: str | int, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Take tokens from what an encoder gave, and bring the mask of its inputs to them; see [`run_encoder`]."""
    numbers = hidden_layers(tokens)
    if len(numbers) > 1:
        parts = [select_tokens(encoder, outputs, number, mask) for number in numbers]
        counts = [hidden.shape[1] for hidden, _ in parts]
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # a count is then a tensor of its own
        if not traced and len(set(counts)) > 1:
            raise NoSuchTokensError(
                f"Hidden layers {tokens} were asked for, joined; those of this `{encoder.config.model_type}` encoder "
                f"have {', '.join(map(str, counts))} tokens: choose layers of as many."
            )
        return torch.cat([hidden for hidden, _ in parts], dim=-1), parts[0][1]
    if tokens == "pooled":
        pooled = getattr(outputs, "pooler_output", None)
        if pooled is None:
            raise NoSuchTokensError(
                f"A `{encoder.config.model_type}` encoder has no pooled output; choose other tokens."
            )
        return pooled.flatten(1).unsqueeze(1), None
    if numbers:
        layers, number = outputs.hidden_states, numbers[0]
        if not -len(layers) <= number < len(layers):
            raise NoSuchTokensError(
                f"Hidden layer {number} was asked for; this `{encoder.config.model_type}` encoder has "
                f"{len(layers)} (0 to {len(layers) - 1})."
            )
        hidden = layers[number]
    else:
        hidden = outputs.last_hidden_state
    if hidden.dim() == 4:  # a convolutional map
        if tokens == "cls":
            raise NoSuchTokensError(f"A `{encoder.config.model_type}` encoder has no class token; choose `pooled`.")
        layer_of_sam = numbers and hidden.shape[-1] == getattr(encoder.config, "hidden_size", None)
        if layer_of_sam or encoder.config.model_type in _CHANNELS_LAST:
            hidden = hidden.permute(0, 3, 1, 2)
        hidden, mask = hidden.flatten(2).transpose(1, 2), None
    mask = _token_mask(encoder, hidden, mask)
    if tokens == "cls":
        if mask is None:
            return hidden[:, :1], None
        first = mask.to(torch.int32).argmax(dim=1)  # not 0 where texts are padded on the left
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), first].unsqueeze(1), None
    return hidden, mask


def _token_mask(encoder: nn.Module, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
    """Bring an input mask to the length of the tokens: audio encoders shorten their input."""
    if mask is None or mask.shape[1] == hidden.shape[1]:
        return mask
    if hasattr(encoder, "_get_feature_vector_attention_mask"):
        return encoder._get_feature_vector_attention_mask(hidden.shape[1], mask)
    # Whisper-like encoders shorten by strides: a token is real if any frame under it is.
    shortened = nn.functional.adaptive_max_pool1d(mask[:, None].float(), hidden.shape[1])
    return shortened[:, 0].to(mask.dtype)
