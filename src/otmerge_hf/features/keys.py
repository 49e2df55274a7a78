"""What features depend on -> hashes that name them.

In: an encoder, its processor, the inputs. Out: JSON values that change exactly when the features would.
"""

import enum
import hashlib
import io
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from ..model.images import open_image, opens_as_it_is
from ..model.sources import tensor_bytes, weights_digest


# Where a file came from and which library wrote it do not change what the encoder computes.
_VOLATILE = {"_commit_hash", "_name_or_path", "_processor_class", "architectures", "auto_map", "name_or_path"}
_VOLATILE |= {"processor_class", "torch_dtype", "dtype", "transformers_version"}
_VOLATILE |= {"id2label", "label2id"}  # of a head that no encoder has
_PARTS = ("image_processor", "feature_extractor", "video_processor", "tokenizer")


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON; a ValueError if the value is not JSON."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except TypeError as error:
        raise ValueError(f"key must hold JSON values only (text, numbers, lists, dicts): {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def encoder_key(
    encoder: PreTrainedModel,
    processor: Any,
    *,
    tokens: str | int,
    dtype: torch.dtype | str,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Key of features, a flat dict of JSON: content hashes of encoder and processor, token selection and dtype.

    The same for equal weights wherever they were loaded from, in `train()` or `eval()`, frozen or not, and
    before or after the tokenizer was used; another for one changed weight, setting or tokenizer rule.

    Args:
        encoder: The encoder; parameters, buffers and configuration count.
        processor: Image processor, feature extractor, tokenizer, a processor made of them, or None.
        tokens: Which tokens are kept, `last_hidden_state` for instance, or the index of a hidden layer.
        dtype: Type in which the encoder computes.
        without: Names of weights that the features do not depend on, such as a pooler's that is drawn anew at each
            load because the checkpoint has none.

    Raises:
        ValueError: If a weight has no data (meta device), or the processor's settings are not JSON.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> encoder = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
        >>> encoder_key(encoder, None, tokens="last_hidden_state", dtype=torch.float32)["tokens"]
        'last_hidden_state'
    """
    return {
        "encoder": type(encoder).__name__,
        "config": digest(_plain(encoder.config.to_diff_dict())),
        "weights": weights_digest(encoder, without),
        "processor": digest(_processor_settings(processor)),
        "tokens": str(tokens),
        "dtype": str(dtype).removeprefix("torch."),
    }


def inputs_key(inputs: Sequence[Any]) -> str:
    """SHA-256 over the inputs and their order.

    Text counts by value, a file (`Path`, or text that names an existing file) by its bytes, a PIL image by its
    mode, size and pixels, an array by type, shape and bytes; lists and dicts by what they hold. An image that
    [`open_image`] does more to than `convert("RGB")` (turned by EXIF, transparent, of more than 8 bits) is marked.

    Raises:
        FileNotFoundError: If a `Path` does not exist; the message has the row.
        ValueError: If an input is of another kind.

    Example:
        >>> inputs_key(["a", "b"]) == inputs_key(["b", "a"])
        False
    """
    total = hashlib.sha256()
    for row, value in enumerate(inputs):
        if isinstance(value, Path) and not value.is_file():
            raise FileNotFoundError(f"inputs[{row}]: no such file: {value}")
        try:
            total.update(input_hash(value))
        except (TypeError, OSError, ValueError) as error:  # of another kind, cut short, or half a character
            raise ValueError(f"inputs[{row}]: {error}") from error
    return total.hexdigest()


def input_hash(value: Any) -> bytes:
    """SHA-256 of one input, for [`inputs_key`]; every kind has its own tag, so that "1" and 1 differ."""
    out = hashlib.sha256()

    def add(tag: str, *parts: Any) -> bytes:
        out.update(tag.encode() + b"\0")
        for part in parts:
            out.update(part if isinstance(part, bytes | memoryview) else str(part).encode())
            out.update(b"\0")
        return out.digest()

    if isinstance(value, str | Path):
        # A path given as text is still a file whose content may change under the same name.
        is_file = isinstance(value, Path) or (len(value) < 4096 and os.path.isfile(value))
        content = Path(value).read_bytes() if is_file else b""
        opening = _opening(content) if is_file else ()
        tag = ("text", value) if isinstance(value, str) else ("file",)
        return add(*tag, hashlib.sha256(content).digest(), *opening)
    if isinstance(value, Image.Image):
        if value.mode == "P" or not opens_as_it_is(value):  # the pixels alone do not say what will be seen
            value = open_image(value)
            return add("image as opened", value.size, hashlib.sha256(value.tobytes()).digest())
        return add("image", value.mode, value.size, hashlib.sha256(value.tobytes()).digest())
    if isinstance(value, torch.Tensor):
        return add("tensor", value.dtype, tuple(value.shape), tensor_bytes(value))
    if isinstance(value, np.ndarray) and value.dtype != object:
        return add("array", value.dtype, value.shape, value.tobytes())
    if isinstance(value, bool | int | float | bytes | None):
        return add(type(value).__name__, value)
    if isinstance(value, Mapping):
        return add("dict", *(part for key in sorted(value) for part in (key, input_hash(value[key]))))
    if isinstance(value, list | tuple):
        return add("list", len(value), *(input_hash(item) for item in value))
    raise TypeError(f"cannot hash a {type(value).__name__}; give text, paths, PIL images or arrays")


def _opening(content: bytes) -> tuple[str, ...]:
    """What the hash of a file must say besides its content: nothing, but for images that are opened with care."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return () if opens_as_it_is(image) else ("opened by open_image",)
    except (OSError, SyntaxError, ValueError):  # no image, or one that opening it will refuse
        return ()


def _processor_settings(processor: Any) -> Any:
    if processor is None:
        return None
    if hasattr(processor, "special_tokens_map"):
        return _tokenizer_settings(processor)
    parts = {name: getattr(processor, name) for name in _PARTS if getattr(processor, name, None) is not None}
    if parts:
        return {name: _processor_settings(part) for name, part in parts.items()}
    # The class counts: the PIL and torchvision backends interpolate differently under the same settings.
    return {"class": type(processor).__name__, "settings": _plain(processor.to_dict())}


def _tokenizer_settings(tokenizer: Any) -> dict[str, Any]:
    settings = {name: getattr(tokenizer, name) for name in ("model_max_length", "padding_side", "truncation_side")}
    settings |= {"class": type(tokenizer).__name__, "special_tokens": _plain(tokenizer.special_tokens_map)}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return settings | {"vocabulary": tokenizer.get_vocab(), "init": _plain(tokenizer.init_kwargs)}
    # Every call with padding= or truncation= leaves its mark: it says how the tokenizer was last used.
    rules = json.loads(backend.to_str())
    return settings | {"rules": {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}}


def _plain(value: Any) -> Any:
    """A processor's or configuration's settings as JSON values, without those that do not count."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key not in _VOLATILE}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, torch.dtype):
        return str(value)
    if hasattr(value, "content") and hasattr(value, "lstrip"):  # tokenizers.AddedToken
        return value.content
    return value
