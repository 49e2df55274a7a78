"""Texts on their way to a tokenizer: what is none is refused by its row, and none is too long for its encoder."""

import contextlib
import unicodedata
from collections.abc import Iterator
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase


#: Stands for the text where images alone are classified: an encoder needs a token, and this one says nothing.
NO_TEXT = "."


def check_texts(name: str, text: Any) -> None:
    """Refuse what is no text, and empty texts: they would become a row that is nothing but special tokens."""
    for row, item in enumerate([text] if isinstance(text, str) or not hasattr(text, "__iter__") else text):
        if text is None or isinstance(item, (list, tuple)):  # a side that is left out; words, already split
            continue
        if not isinstance(item, str):
            raise ValueError(f"`{name}` row {row} is a {type(item).__name__}; expected a string.")
        # zero-width characters are no spaces to Python, and nothing to a tokenizer
        if all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in item):
            raise ValueError(f"`{name}` row {row} is empty; expected a question of at least one character.")
        if lone := [c for c in item if "\ud800" <= c <= "\udfff"]:
            raise ValueError(f"`{name}` row {row} holds {lone[0]!a}, half a character; expected whole Unicode.")


def as_batch(text: Any, tensors: Any) -> Any:
    """A batch of one, where tensors are asked for and one text came."""
    return [text] if isinstance(text, str) and tensors is not None else text


def text_options(name: str, tokenizer: PreTrainedTokenizerBase, given: dict[str, Any]) -> dict[str, Any]:
    """Options of a call of a tokenizer: padded, cut and with a mask, unless those `given` say otherwise.

    Raises:
        ValueError: If the tokenizer, called `name`, has nothing to pad with.
    """
    options: dict[str, Any] = {"padding": True, "truncation": True, "return_attention_mask": True}
    if type(tokenizer).__name__.startswith("Siglip"):  # learnt from texts of 64 tokens, with the padding seen
        length = min(tokenizer.model_max_length, 64)
        options |= {"padding": "max_length", "max_length": length, "return_attention_mask": False}
    options |= given
    if tokenizer.pad_token is None and options["padding"]:
        expected = "set `tokenizer.pad_token = tokenizer.eos_token`, or pass `padding=False`"
        raise ValueError(f"`{name}` has no padding token, which texts of different lengths need; {expected}.")
    return options


@contextlib.contextmanager
def name_given(**given: Any) -> Iterator[None]:
    """Say in one line which arguments a part of a processor failed on; what is refused by name already stays."""
    try:
        yield
    except Exception as error:  # the parts raise errors of many kinds, some of them validation's own
        names = " or ".join(f"`{name}`" for name, value in given.items() if value is not None)
        reason = ": ".join(str(error).strip().splitlines()[:2]) or type(error).__name__
        raise ValueError(f"{names}, or an option, is not what the processor takes: {reason}") from error


def load_tokenizer(source: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Load a tokenizer; one that does not say how long a text may be learns it from its encoder's configuration.

    One without a padding token pads with that of the end.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **kwargs)
    except ValueError as error:  # of several lines about libraries
        raise ValueError(f"{str(source)!r} has no tokenizer that transformers can load.") from error
    if tokenizer.model_max_length > 1e20:  # what transformers puts where nothing is said
        with contextlib.suppress(OSError, ValueError):  # there is no encoder
            positions = getattr(AutoConfig.from_pretrained(source), "max_position_embeddings", None)
            if positions and positions > 2:
                tokenizer.model_max_length = positions - 2  # those of RoBERTa and its kind begin at 2
    if tokenizer.pad_token is None:  # GPT-2, Llama: what the mask hides may be anything
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
