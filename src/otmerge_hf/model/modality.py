"""What a merge can look at, and the text that asks: one row each, read by model, processors, pipeline and features.

A new modality is a new row here, its processor in `processing_otmerge`, and a test.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .images import open_image
from .sounds import open_waveform


SIDES = ("context", "query")
IMAGE_MASK = "image_mask"  # (B, n), of rows with several images
CONTEXT_INDEX = "context_index"  # (B,), of questions that share their contexts


def open_text(item: Any) -> str:
    """Take a text as it is; ValueError if the item is none."""
    if isinstance(item, str):
        return item
    raise ValueError(f"`text` holds a {type(item).__name__}; expected a string.")


@dataclass(frozen=True)
class Modality:
    """How one kind of input gets from what the user has to what the encoder takes.

    Attributes:
        name: For messages.
        encoder_input: The encoder's own main argument (its `main_input_name`), by which the row is found.
        argument: What `forward` of the merge calls it.
        mask_argument: What `forward` calls its mask; encoders that take none get none.
        processor_part: Attribute of the processor that prepares it.
        call_argument: What the processor's call names it.
        open_item: An item of the user's (a path, an array, a text) -> what the processor part takes.
        call_options: What the processor must be told besides.
        encoder_options: Further arguments, called the same by `forward` and the encoder.
        length: How long an item is, where a batch is padded to its longest; None where all become equally long.
    """

    name: str
    encoder_input: str
    argument: str
    mask_argument: str
    processor_part: str
    call_argument: str
    open_item: Callable[..., Any]
    call_options: tuple[str, ...] = ()
    encoder_options: tuple[str, ...] = ()
    length: Callable[[Any], int] | None = None


IMAGE = Modality(
    "image", "pixel_values", "pixel_values", "pixel_attention_mask", "image_processor", "images", open_image,
    encoder_options=("spatial_shapes",),
)  # fmt: skip
_SOUND = ("context_attention_mask", "feature_extractor", "audio", open_waveform, ("sampling_rate",))
_PASSAGE = ("context_attention_mask", "context_tokenizer", "context_text", open_text)
CONTEXTS = (
    IMAGE,
    Modality("audio features", "input_features", "input_features", *_SOUND, encoder_options=("is_longer",)),
    Modality("audio values", "input_values", "input_values", *_SOUND, length=len),
    Modality("text", "input_ids", "context_input_ids", *_PASSAGE, length=len),
)
QUERY = Modality(
    "text", "input_ids", "input_ids", "attention_mask", "tokenizer", "text", open_text, (), ("token_type_ids",), len
)


def modality_of(side: str, encoder: Any) -> Modality:
    """Find the row of one side by what its encoder takes.

    Args:
        side: `"context"` or `"query"`.
        encoder: Its encoder; anything with `main_input_name` and `config`.

    Raises:
        ValueError: If the encoder takes something that has no row.
    """
    wanted = encoder.main_input_name
    rows = CONTEXTS if side == "context" else (QUERY,)
    for row in rows:
        if row.encoder_input == wanted:
            return row
    kind = encoder.config.model_type
    if side == "query":
        hint = "expected a text encoder (are context and query exchanged?)"
        raise ValueError(f"The query encoder is a `{kind}`, which takes `{wanted}`; {hint}.")
    expected = ", ".join(row.encoder_input for row in rows)
    raise ValueError(f"The context encoder is a `{kind}`, which takes `{wanted}`; expected one of {expected}.")


def _forward_inputs() -> tuple[str, ...]:
    first, *others = CONTEXTS
    asked = (QUERY.argument, QUERY.mask_argument, *QUERY.encoder_options)
    masks = (row.mask_argument for row in others)
    rare = (first.mask_argument, *(name for row in CONTEXTS for name in row.encoder_options))
    features = (f"{side}_features{end}" for side in SIDES for end in ("", "_mask"))
    names = (first.argument, *asked, *(row.argument for row in others), *masks, *features, "pair_mask", "group_ids")
    return tuple(dict.fromkeys((*names, *rare, IMAGE_MASK, CONTEXT_INDEX)))


# Every tensor that `forward` takes besides labels: the rows' arguments and masks, cached features, marks of pairs.
FORWARD_INPUTS = _forward_inputs()


def takes_inputs(forward: Callable) -> Callable:
    """Let `forward(self, <options>, **inputs)` take [`FORWARD_INPUTS`], by name or by position, before its options.

    The names come from the table, and are typed nowhere else. They stand in the signature, where `Trainer` looks for
    the columns to keep. A name that is neither input nor option is refused, as Python would.

    Example:
        >>> @takes_inputs
        ... def forward(self, labels=None, **inputs):
        ...     return inputs, labels
        >>> forward(None, "pixels", input_ids="ids", labels="answers")
        ({'input_ids': 'ids', 'pixel_values': 'pixels'}, 'answers')
    """
    first, *options, _ = inspect.signature(forward).parameters.values()
    names = (*FORWARD_INPUTS, *(option.name for option in options))

    @functools.wraps(forward)
    def wrapper(self, *args, **kwargs):
        if len(args) > len(names):
            raise TypeError(f"{forward.__qualname__}() takes {len(names)} arguments; got {len(args)}.")
        for name, value in zip(names, args, strict=False):
            if name in kwargs:
                raise TypeError(f"{forward.__qualname__}() got multiple values for argument '{name}'.")
            kwargs[name] = value
        for name in kwargs:
            if name not in names:
                raise TypeError(f"{forward.__qualname__}() got an unexpected keyword argument '{name}'.")
        return forward(self, **kwargs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    inputs = [inspect.Parameter(name, kind, default=None, annotation="torch.Tensor | None") for name in FORWARD_INPUTS]
    wrapper.__signature__ = inspect.signature(forward).replace(parameters=[first, *inputs, *options])
    return wrapper
