"""Three inputs of each kind, of different sizes, for the pairs of the suite `zoo`: raw, and as tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BertTokenizer

from otmerge_hf.model.processing_otmerge import make_processor

from .zoo_build import FAMILIES, make_part
from .zoo_families import AUDIO, VISION
from .zoo_texts import TEXT, TEXTS


RATE = 16_000
PASSAGES = ("there is a red shape", "the image shows one blue shape of the color there", "no shape")
_PADDED = (8, 4, 11)  # tokens of texts without a tokenizer


def raw(name: str) -> list[Any]:
    """What a user has: images of several sizes, waveforms of several lengths, or passages."""
    random = np.random.default_rng(0)
    if name in VISION:
        sizes = ((40, 40), (64, 48), (33, 70))
        return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    if name in AUDIO:
        return [random.standard_normal(length).astype(np.float32) for length in (9_600, 4_800, 14_400)]
    return list(PASSAGES)


class Batches:
    """Batches of some rows, for `forward` of the merge: by its processor, or where there is none, made by hand.

    Args:
        context: Name of the context's family.
        model: The merge.
        processor: Its processor, or None.
    """

    def __init__(self, context: str, model: Any, processor: Any) -> None:
        self.context, self.model, self.processor = context, model, processor
        self.items = raw(context)

    def __call__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Inputs of some of the three rows, padded to the longest of them."""
        if self.processor is not None:
            argument = {**dict.fromkeys(VISION, "images"), **dict.fromkeys(AUDIO, "audio")}.get(self.context)
            given: dict[str, Any] = {argument or "context_text": [self.items[row] for row in rows]}
            if self.context in AUDIO:
                given["sampling_rate"] = RATE
            return dict(self.processor(**given, text=[TEXTS[row] for row in rows], return_tensors="pt"))
        ids, mask = _tokens(self.model.config.query_config, rows)
        return self._context(rows) | {"input_ids": ids, "attention_mask": mask}

    def _context(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        family, encoder = FAMILIES[self.context], self.model.otmerge.context_encoder
        if family.processor is not None and self.context not in TEXT:  # the query's tokenizer is what is missing
            part = make_processor(make_part(family), BertTokenizer())
            argument = "images" if self.context in VISION else "audio"
            rate = {} if self.context in VISION else {"sampling_rate": RATE}
            return dict(part(**{argument: [self.items[row] for row in rows]}, **rate, return_tensors="pt"))
        generator = torch.Generator().manual_seed(0)
        if encoder.main_input_name == "pixel_values":
            size = getattr(encoder.config, "image_size", 64)
            sides = (size, size) if isinstance(size, int) else tuple(size)
            return {"pixel_values": torch.randn(3, 3, *sides, generator=generator)[list(rows)]}
        if encoder.main_input_name == "input_ids":
            ids, mask = _tokens(encoder.config, rows)
            return {"context_input_ids": ids, "context_attention_mask": mask}
        lengths = torch.tensor((60, 30, 90))[list(rows)]  # frames
        frames = torch.randn(3, 90, encoder.config.num_mel_bins, generator=generator)[list(rows), : lengths.max()]
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return {"input_features": frames * mask[..., None], "context_attention_mask": mask}


def _tokens(config: Any, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor(_PADDED)[list(rows)]
    ids = torch.randint(5, 30, (3, max(_PADDED)), generator=generator)[list(rows), : lengths.max()]
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return ids.masked_fill(mask == 0, getattr(config, "pad_token_id", None) or 0), mask
