"""What an encoder can give, read off its class or measured on a tiny input, before it is merged."""

import contextlib
import dataclasses
import inspect
import typing

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .encoders import NoSuchTokensError, run_encoder
from .modality import IMAGE, modality_of


_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")  # the parameters' names, in image and audio encoders
# Their tokenizers put no token before the text that would stand for the whole; XLNet's stands at the end.
_TEXT_WITHOUT_CLASS_TOKEN = ("longt5", "mt5", "t5", "umt5", "xlnet")
_OUTPUTS = {"last_hidden_state": "last_hidden_state", "cls": "last_hidden_state", "pooled": "pooler_output"}


def check_encoder(side: str, encoder: PreTrainedModel, tokens: str | int) -> None:
    """Refuse an encoder that takes or gives something else; read off its class, without running it.

    Raises:
        ValueError: If it takes what has no row in the table of modalities, or videos, or has no such tokens.
    """
    row, kind = modality_of(side, encoder), encoder.config.model_type
    modalities = getattr(encoder, "input_modalities", None) or ()
    of_video = "video" in modalities and "image" not in modalities
    if row is IMAGE and (of_video or hasattr(encoder.config, "num_frames")):
        raise ValueError(
            f"The {side} encoder is a `{kind}`, which takes the frames of a video; expected single images."
        )
    returned = inspect.signature(encoder.forward).return_annotation
    kinds = [t for t in typing.get_args(returned) or (returned,) if isinstance(t, type) and issubclass(t, ModelOutput)]
    wanted = _OUTPUTS.get(tokens, "hidden_states") if isinstance(tokens, str) else "hidden_states"
    if kinds and not any(wanted in {field.name for field in dataclasses.fields(t)} for t in kinds):
        raise ValueError(
            f"The {side} encoder is a `{kind}`, whose {kinds[0].__name__} has no `{wanted}`: it does not give tokens "
            f"for `{side}_tokens={tokens!r}`; expected an encoder."
        )


def gives_grid(encoder: PreTrainedModel) -> bool:
    """Whether the tokens are the cells of one grid: those of an image, unless each image has a grid of its own."""
    return encoder.main_input_name == "pixel_values" and not _takes(encoder, "spatial_shapes")


def measure_width(side: str, encoder: PreTrainedModel, tokens: str | int, stated: int | None = None) -> int | None:
    """Check what is selected, and measure its width: by running an encoder on a black image, or on a few tokens.

    Returns:
        The width; what was `stated`; or None, where the configuration says it.

    Raises:
        ValueError: If the encoder cannot be merged, has no such tokens, or does not run on one image or text alone.
    """
    check_encoder(side, encoder, tokens)
    check_selection(side, encoder, tokens)
    of_text = encoder.main_input_name == "input_ids"
    if stated is not None or not (of_text or encoder.main_input_name == "pixel_values"):
        return stated
    try:
        width = _probe(encoder, tokens).shape[-1]
        return None if of_text and width == getattr(encoder.config, "hidden_size", None) else width
    except NoSuchTokensError as error:
        raise NoSuchTokensError(f"`{side}_tokens` is {tokens}: {error}") from error
    except Exception as error:  # of any kind: remote code may raise what it likes
        cause = error.__cause__ or error  # without the shapes of the trial
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        kind = encoder.config.model_type
        what = "a text alone" if of_text else "one image"
        raise ValueError(f"The {side} encoder is a `{kind}`, which does not run on {what}: {reason}") from error


def check_source(side: str, record: dict, tokens: str | int) -> None:
    """Refuse `"pooled"`, with a ValueError, where the checkpoint has no pooler: transformers drew one at random."""
    if tokens == "pooled" and any("pooler" in name for name in record.get("missing", ())):
        raise ValueError(
            f"The checkpoint of the {side} encoder ({record['class_name']}) has no pooler: its `pooled` tokens would "
            f"be another random map at each load; choose others as `{side}_tokens`."
        )


def check_selection(side: str, encoder: PreTrainedModel, tokens: str | int) -> None:
    """Refuse `"cls"` where the first token is a patch, a frame, or a word: nothing that stands for the whole.

    Raises:
        ValueError: If the encoder has no class token; the message names what it has.
    """
    if tokens != "cls":
        return
    kind, choices, of_text = encoder.config.model_type, ["last_hidden_state"], encoder.main_input_name == "input_ids"
    if of_text:
        first, other = (_probe(encoder, "last_hidden_state", last)[:, 0] for last in (3, 4))
        known = kind not in _TEXT_WITHOUT_CLASS_TOKEN and not torch.equal(first, other)  # equal: it sees no later ones
    else:
        known = any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in encoder.named_parameters())
    if known:
        return
    if of_text or encoder.main_input_name == "pixel_values":
        with contextlib.suppress(NoSuchTokensError):  # it has none
            _probe(encoder, "pooled")
            choices.append("pooled")
    expected = f"{', '.join(choices)}, or a layer's index"
    raise ValueError(f"`{side}_tokens` is 'cls', and a `{kind}` encoder has no class token; expected {expected}.")


def unread_parameters(encoder: PreTrainedModel, tokens: str | int) -> list[nn.Parameter]:
    """Parameters that the selected tokens do not depend on: a pooler, the layers above the selected one.

    Measured on one image or text; of sound, whose encoders differ in what they take, none are found.
    """
    if encoder.main_input_name not in ("pixel_values", "input_ids"):
        return []
    learning = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    made = _probe(encoder, tokens, gradient=True)
    reached = torch.autograd.grad(made.sum(), learning, allow_unused=True)
    return [parameter for parameter, gradient in zip(learning, reached, strict=True) if gradient is None]


def _probe(encoder: PreTrainedModel, tokens: str | int, last: int = 3, gradient: bool = False) -> torch.Tensor:
    """Tokens (1, S, D) of one black image or of a text of eight token ids that ends in `last`, in `eval()`."""
    if encoder.main_input_name == "input_ids":
        value = torch.tensor([[1, 2, 2, 2, 2, 2, 2, last]])
    else:
        size = getattr(encoder.config, "image_size", None) or 224
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        value = torch.zeros(1, getattr(encoder.config, "num_channels", 3), height, width, dtype=encoder.dtype)
    more = {}
    if _takes(encoder, "spatial_shapes"):  # an image cut into patches, with the number of rows and columns
        value = value[:, :, : encoder.config.patch_size, : encoder.config.patch_size].reshape(1, 1, -1)
        more = {"spatial_shapes": torch.ones(1, 2, dtype=torch.long, device=encoder.device)}
        more["pixel_attention_mask"] = more["spatial_shapes"][:, :1]
    training = encoder.training
    encoder.eval()
    try:
        with torch.set_grad_enabled(gradient):
            return run_encoder(encoder, {encoder.main_input_name: value.to(encoder.device)} | more, tokens)[0]
    finally:
        encoder.train(training)


def _takes(encoder: PreTrainedModel, name: str) -> bool:
    return name in inspect.signature(encoder.forward).parameters
