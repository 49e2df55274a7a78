"""Two encoders by name -> their processor, merges of any choice of tokens, and features of any inputs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..encoders import resolve_encoder
from ..features import FeatureStore, encode
from ..model.modeling_otmerge import OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor


SIDES = ("context", "query")
TokenChoice = str | int


class EncoderPair:
    """An image encoder and a text encoder, with the choices of tokens that are to be compared.

    Args:
        context: Image encoder: a name that [`resolve_encoder`] knows, a folder, or a name on the Hub.
        query: Text encoder, likewise.
        tokens: Choices of tokens of each side, at least one.
        image_size: Pixels, for encoders that come as packages; see [`resolve_encoder`].

    Attributes:
        processor: Makes the encoders' inputs.
        tokens: The choices, each once.

    Raises:
        ValueError: If an encoder is not of its side's kind, or has no such tokens.
        OSError: If an encoder is not found.
    """

    def __init__(
        self, context: str, query: str, tokens: Mapping[str, Sequence[TokenChoice]], image_size: int | None = None
    ) -> None:
        self.tokens = {side: list(dict.fromkeys(tokens[side])) for side in SIDES}
        self._paths = resolve_encoder(context, image_size), resolve_encoder(query)
        self._models: dict[tuple[TokenChoice, ...], OTMergeModel] = {}
        for path, side in zip(self._paths, SIDES, strict=True):
            if Path(path).exists() and not (Path(path) / "config.json").is_file():
                raise ValueError(f"{side} {path!r} is no folder of a saved encoder: it has no config.json")
        first = self.probe({})
        if first.context_encoder.main_input_name != "pixel_values":
            raise ValueError(
                f"context {context!r} is a {first.context_encoder.config.model_type} encoder; "
                "expected an image encoder (are context and query exchanged?)"
            )
        self.processor = OTMergeProcessor.from_encoders_pretrained(*self._paths)
        self.processor.check_model(first)

    def widths(self, side: str) -> list[int]:
        """Width of each choice of one side's tokens."""
        return [self.probe({side: choice}).config.feature_dim(side) for choice in self.tokens[side]]

    def probe(self, tokens: Mapping[str, TokenChoice]) -> OTMergeModel:
        """The merge of these tokens, with adapters of any width; made once, and shared by all who ask.

        A side that is left out has its first choice of tokens: enough to run the other side's encoder.
        """
        chosen = {side: tokens.get(side, self.tokens[side][0]) for side in SIDES}
        key = tuple(chosen.values())
        if key not in self._models:
            self._models[key] = self.build(chosen, shared_dim=4)
        return self._models[key]

    def build(self, tokens: Mapping[str, TokenChoice], shared_dim: int) -> OTMergeModel:
        """Make the merge of one choice of tokens, with linear adapters that are not fitted yet."""
        # Whoever puts a fuser on top later chooses its heads; here they only must divide the width.
        choices: dict[str, Any] = {} if shared_dim % 4 == 0 else {"fuser_num_heads": 1, "context_positions": "none"}
        choices |= {f"{side}_tokens": tokens[side] for side in SIDES}
        model = OTMergeModel.from_encoders_pretrained(
            *self._paths, adapter_type="linear", shared_dim=shared_dim, **choices
        )
        return model.eval()

    def encode(
        self,
        side: str,
        choice: TokenChoice,
        inputs: Mapping[str, Sequence[Any]],
        *,
        cache_dir: str | os.PathLike,
        batch_size: int,
        device: str | torch.device,
    ) -> dict[str, FeatureStore]:
        """Features of one side and choice of tokens, for several named lists of inputs."""
        model = self.probe({side: choice})
        model.to(device)  # type: ignore[arg-type]  # transformers wraps it and loses the signature
        return {
            name: encode(model, self.processor, side, items, cache_dir=cache_dir, batch_size=batch_size)
            for name, items in inputs.items()
        }
