"""A family of the suite `zoo` -> a folder with a tiny model of random weights, and its processor where it can be."""

import zlib
from pathlib import Path
from typing import Any

import torch
import transformers

from . import zoo_texts
from .zoo_families import AUDIO, OTHER, VISION, Family
from .zoo_texts import TEXT


FAMILIES = VISION | AUDIO | TEXT | OTHER
_WITH_MERGES = ("bytes_", "clip", "characters")


def make_folder(name: str, folder: Path) -> Family:
    """Write a family's model and processor; the same weights for the same name.

    Weights are drawn with a spread of one over the root of what comes in: with transformers' own, of 0.02, a mask or
    a position that is ignored would hardly change what comes out.
    """
    family = FAMILIES[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    kind: Any = getattr(transformers, family.model)
    model = kind(kind.config_class(**family.config)).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() > 1 and not key.endswith("original0"):  # the lengths of a weight norm
                value.normal_(std=value[0].numel() ** -0.5)
            elif key.endswith("bias"):
                value.normal_(std=0.1)
    model.save_pretrained(folder)
    if family.processor is not None:
        make_part(family).save_pretrained(folder)
    return family


def make_part(family: Family) -> Any:
    """The family's image processor, feature extractor or tokenizer."""
    assert family.processor is not None
    kind: Any = getattr(transformers, family.processor)
    if "vocabulary" not in family.options:
        return kind(**family.options)
    options = {"model_max_length": 64, **family.options}
    made = options.pop("vocabulary")
    vocabulary = getattr(zoo_texts, made)(options.pop("special"))
    if family.processor == "TokenizersBackend":  # what ModernBERT and EuroBERT load their own file of tokens into
        inner = transformers.BertTokenizer(vocab=vocabulary)
        special = {name: getattr(inner, name) for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
        return kind(tokenizer_object=inner.backend_tokenizer, **options, **special)
    return kind(vocab=vocabulary, **options, **({"merges": []} if made in _WITH_MERGES else {}))
