"""Checks of the model's inputs: what came, what was expected, in one line, before any work is lost.

Values are looked at on the CPU only: on an accelerator each look would stall the device.
"""

import contextlib
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from .modality import CONTEXT_INDEX, CONTEXTS, IMAGE, IMAGE_MASK, Modality, modality_of


logger = logging.get_logger(__name__)

LARGEST = 1e10  # far above any real value; sums of squares of much larger ones overflow to infinity, and become NaN


def read_side(
    side: str, encoder: PreTrainedModel, arguments: dict[str, torch.Tensor | None]
) -> tuple[dict[str, torch.Tensor | None], torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Find one side among the arguments of `forward`, and check it before an encoder runs.

    Returns:
        The encoder's inputs (empty if there are features), the mask of either, the features or None, and which rows
        of these are meant, or None for each once. The mask of several images a row, (B, n, C, H, W), is (B, n).

    Raises:
        ValueError: If the side is missing, or is not what its encoder takes.
    """
    found = _read_inputs(side, encoder, arguments)
    rows = arguments.get(CONTEXT_INDEX) if side == "context" else None
    if rows is not None:
        given = found[2] if found[2] is not None else next(iter(found[0].values()))
        _check_rows(rows, given.shape[0])  # type: ignore[union-attr]
    return (*found, rows)


def _check_rows(rows: torch.Tensor, count: int) -> None:
    """Check numbers of rows below `count`, (B,)."""
    if rows.dim() != 1 or rows.dtype not in (torch.int64, torch.int32):  # what `index_select` takes
        came = f"{rows.dtype} of shape {tuple(rows.shape)}"
        raise ValueError(f"`{CONTEXT_INDEX}` is {came}; expected whole numbers (torch.long), one a query.")
    if _readable(rows) and rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= count):
        wrong = int(rows[(rows < 0) | (rows >= count)][0])
        raise ValueError(
            f"`{CONTEXT_INDEX}` holds {wrong}, and there are {count} contexts; expected 0 to {count - 1}."
        )


def _read_inputs(
    side: str, encoder: PreTrainedModel, arguments: dict[str, torch.Tensor | None]
) -> tuple[dict[str, torch.Tensor | None], torch.Tensor | None, torch.Tensor | None]:
    features, images = arguments.get(f"{side}_features"), arguments.get(IMAGE_MASK) if side == "context" else None
    if features is not None:
        mask = arguments.get(f"{side}_features_mask")
        return {}, mask if images is None else _mask_by_image(images, features, mask), features
    if arguments.get(f"{side}_features_mask") is not None:
        raise ValueError(f"`{side}_features_mask` is given without `{side}_features`; expected both or neither.")
    row = modality_of(side, encoder)
    value = arguments.get(row.argument)
    if value is None:
        raise ValueError(_missing(side, row, encoder, arguments))
    if side == "query":
        check_token_ids(value, encoder)
        kinds = arguments.get("token_type_ids")
        if kinds is not None and kinds.shape != value.shape:  # (1, S) would broadcast
            raise ValueError(f"`token_type_ids` has shape {tuple(kinds.shape)}; expected {tuple(value.shape)}.")
    else:
        shape = tuple(value.shape)
        if _readable(value) and not value.numel():
            raise ValueError(f"`{row.argument}` has shape {shape}; expected at least one row and value.")
        if row is IMAGE and len(shape) == 3 and arguments.get("spatial_shapes") is None:
            expected = "(batch, channels, height, width), or patches with `pixel_attention_mask` and `spatial_shapes`"
            raise ValueError(f"`{row.argument}` has shape {shape}; expected {expected}.")
        if row is IMAGE and (len(shape) == 5 or images is not None):
            _check_several(shape, images, arguments)
            check_finite(value, row.argument)
            return {row.encoder_input: value}, images, None
        check_finite(value, row.argument)
    mask = arguments.get(row.mask_argument)
    if mask is not None:
        check_mask(mask, row.mask_argument, value.shape[0], tuple(value.shape[1:]))
    inputs = {row.encoder_input: value} | {name: arguments.get(name) for name in row.encoder_options}
    return inputs, mask, None


def images_a_row(arguments: dict[str, torch.Tensor | None]) -> int:
    """How many images, n, the rows of a batch have, each with its own tokens; 1 where nothing is said."""
    mask, pixels = arguments.get(IMAGE_MASK), arguments.get(IMAGE.argument)
    if mask is not None:
        return int(mask.shape[1])
    several = pixels is not None and pixels.dim() == 5 and arguments.get("context_features") is None
    return int(pixels.shape[1]) if several else 1  # type: ignore[union-attr]


def _check_several(shape: tuple, images: torch.Tensor | None, arguments: dict[str, torch.Tensor | None]) -> None:
    """Check pixels of several images a row, and the mask that says which of them a row has."""
    if len(shape) != 5:
        expected = "(batch, images, channels, height, width)"
        raise ValueError(f"`{IMAGE_MASK}` is given and `{IMAGE.argument}` has shape {shape}; expected {expected}.")
    for name in (IMAGE.mask_argument, *IMAGE.encoder_options):
        if arguments.get(name) is not None:
            several = f"`{IMAGE.argument}` has shape {shape}, several images a row"
            raise ValueError(f"{several}, which encoders with `{name}` do not take; expected one image a row.")
    if images is not None:
        check_mask(images, IMAGE_MASK, shape[0], (shape[1],))


def _mask_by_image(images: torch.Tensor, features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mask (B, n * S) of the tokens of n images a row, by the images' mask (B, n) and the tokens' own."""
    check_mask(images, IMAGE_MASK, features.shape[0], (images.shape[-1],))
    if features.dim() != 3 or features.shape[1] % images.shape[1]:
        expected = f"(batch, {images.shape[1]} images of as many tokens, width)"
        raise ValueError(f"`context_features` has shape {tuple(features.shape)}; expected {expected}.")
    tokens = images.repeat_interleave(features.shape[1] // images.shape[1], dim=1)
    if mask is None:
        return tokens
    check_mask(mask, "context_features_mask", features.shape[0], (features.shape[1],))
    return mask * tokens.to(mask.dtype)


def _missing(side: str, row: Modality, encoder: PreTrainedModel, arguments: dict[str, torch.Tensor | None]) -> str:
    if side == "query":
        return "The query side is missing: pass `input_ids` (or `query_features`)."
    came = [other.argument for other in CONTEXTS if arguments.get(other.argument) is not None]
    return (
        f"The context side is missing: a `{encoder.config.model_type}` encoder takes `{row.argument}` "
        f"(or `context_features`), got {', '.join(came) or 'none'}."
    )


def check_token_ids(input_ids: torch.Tensor, encoder: PreTrainedModel) -> None:
    """Check that there are tokens, and that the query encoder knows them."""
    if input_ids.dim() != 2 or input_ids.shape[1] == 0:
        raise ValueError(f"`input_ids` has shape {tuple(input_ids.shape)}; expected (batch, at least one token).")
    if input_ids.is_floating_point() or input_ids.is_complex() or input_ids.dtype == torch.bool:
        raise ValueError(f"`input_ids` are {input_ids.dtype}; expected whole numbers (torch.long).")
    vocab_size = getattr(encoder.config, "vocab_size", None)
    if not (vocab_size and _readable(input_ids) and input_ids.numel()):
        return
    for token in (int(input_ids.max()), int(input_ids.min())):
        if not 0 <= token < vocab_size:
            known = f"the query encoder knows 0 to {vocab_size - 1}"
            raise ValueError(f"`input_ids` holds token {token}, {known}: the tokenizer belongs to another model.")


def check_pairs(context: torch.Tensor, query: torch.Tensor) -> None:
    """Check that each question has its context."""
    rows, asked = context.shape[0], query.shape[0]  # not `len`, which fixes the batch of an exported model
    if rows != asked:
        raise ValueError(f"Got {rows} contexts and {asked} queries; each question needs its context.")


def check_features(features: torch.Tensor, mask: torch.Tensor | None, side: str, dim: int) -> None:
    """Check the shape of one side's tokens and of their mask."""
    if features.dim() != 3 or features.shape[-1] != dim or features.shape[1] == 0:
        expected = f"(batch, at least one token, {dim})"
        raise ValueError(f"`{side}_features` has shape {tuple(features.shape)}; expected {expected}.")
    if mask is not None:
        check_mask(mask, f"{side}_features_mask", *features.shape[:1], (features.shape[1],))
    check_finite(features, f"{side}_features")


def check_mask(mask: torch.Tensor, name: str, rows: int, lengths: tuple[int, ...]) -> None:
    """Check that a mask is (rows, one of `lengths`), holds 1 and 0 alone, and leaves something of every row."""
    if mask.dim() != 2 or mask.shape[0] != rows or mask.shape[1] not in lengths:
        expected = f"({rows}, {' or '.join(map(str, lengths))})"
        raise ValueError(f"`{name}` has shape {tuple(mask.shape)}; expected {expected}.")  # (B, 1) would broadcast
    if mask.is_complex():
        raise ValueError(f"`{name}` is {mask.dtype}; expected 1 for what is real and 0 for padding.")
    if not _readable(mask):
        return
    real = mask == 1
    if (wrong := mask[~real & (mask != 0)]).numel():
        raise ValueError(f"`{name}` holds {wrong[0].item():g}; expected 1 for what is real and 0 for padding.")
    if not real.any(dim=1).all():
        empty = (~real.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"`{name}` is 0 all over in rows {empty[:8]}; expected a 1 in every row.")


def check_finite(values: torch.Tensor, name: str) -> None:
    """Refuse NaN, infinity and what becomes it: one bad row spoils a batch's plan and every weight after it."""
    if not (values.is_floating_point() and _readable(values) and values.numel()):
        return
    low, high = torch.aminmax(values)  # NaN if one value is; much cheaper than a look at each
    if not (low >= -LARGEST and high <= LARGEST):
        rows = (~(values.abs() <= LARGEST)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        kind = f"values beyond {LARGEST:g}" if torch.isfinite(values).all() else "NaN or infinite values"
        raise ValueError(f"`{name}` holds {kind} in rows {rows[:8]}; check those inputs.")


def check_tensors(arguments: dict[str, torch.Tensor | None]) -> None:
    """Refuse what is no tensor, with a ValueError that names it: a list, or an array of numpy."""
    for name, value in arguments.items():
        if value is not None and not isinstance(value, torch.Tensor):
            raise ValueError(f"`{name}` is a {type(value).__name__}; expected a torch.Tensor.")


@contextlib.contextmanager
def name_inputs(encoder: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Iterator[None]:
    """Say in one line what an encoder failed on: more tokens than it has positions, or inputs of another shape."""
    try:
        yield
    except (IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if encoder.device.type != "cpu" or isinstance(error, torch.OutOfMemoryError):
            raise  # the device may have failed; and trainers look for its messages
        kind, ids = encoder.config.model_type, inputs.get("input_ids")
        positions = getattr(encoder.config, "max_position_embeddings", None)
        if ids is not None and positions is not None and ids.shape[-1] > positions - 2:  # RoBERTa's begin at 2
            raise ValueError(
                f"A text has {ids.shape[-1]} tokens, and the positions of the `{kind}` encoder end at {positions}: "
                "set `tokenizer.model_max_length`, by which the processor cuts."
            ) from error
        shapes = ", ".join(f"`{name}` {tuple(value.shape)}" for name, value in inputs.items())
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The `{kind}` encoder does not take {shapes}: {reason}") from error


def check_labels(labels: torch.Tensor, logits: torch.Tensor, problem_type: str | None = None) -> None:
    """Check that labels are answer indices (B,) or soft scores (B, num_labels), and what the configuration says.

    Soft ones with no `problem_type` in the configuration get a warning, once: the pipeline would show a softmax.
    """
    check_tensors({"labels": labels})
    (batch, num_labels), shape = logits.shape, tuple(labels.shape)
    if shape not in ((batch,), (batch, num_labels)):
        expected = f"({batch},) answer indices or ({batch}, {num_labels}) soft targets"
        raise ValueError(f"`labels` has shape {shape}; expected {expected}.")
    kind = "single_label_classification" if labels.dim() == 1 else "multi_label_classification"
    if problem_type not in (None, kind):
        said = f"the configuration says `problem_type={problem_type!r}`"
        raise ValueError(f"`labels` of shape {shape} are of a {kind}; {said}.")
    if labels.dim() == 2 and problem_type is None:
        logger.warning_once(
            "`labels` are soft targets, but the configuration's `problem_type` is None: the pipeline will show a "
            'softmax; for sigmoids set `model.config.problem_type = "multi_label_classification"`.'
        )
    if labels.dim() == 1 and (labels.is_floating_point() or labels.dtype == torch.bool):
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
    return values.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
