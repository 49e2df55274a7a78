"""Two encoders by name -> their processor, merges of any choice of tokens, and features of any inputs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..encoders import IMAGE_ENCODERS, TEXT_ENCODERS, resolve_encoder
from ..features import FeatureStore, encode
from ..model.configuration_otmerge import OTMergeConfig
from ..model.encoders import load_encoders
from ..model.modality import IMAGE, SIDES, modality_of
from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from ..model.probing import check_source, measure_width
from ..model.processing_otmerge import OTMergeProcessor


TokenChoice = str | int


class EncoderPair:
    """An encoder of images or sounds and one of texts, loaded once, with the choices of tokens to be compared.

    `tokens` names at least one choice a side; `processor` makes the inputs. The other arguments and what is raised are
    those of [`align_encoders`].
    """

    def __init__(
        self, context: str, query: str, tokens: Mapping[str, Sequence[TokenChoice]], image_size: int | None = None
    ) -> None:
        self.tokens = {side: list(dict.fromkeys(tokens[side])) for side in SIDES}
        # a size for an encoder that takes none is refused below: it may be a text encoder, which says more
        sized = image_size if context in IMAGE_ENCODERS else None
        paths = {"context": resolve_encoder(context, sized), "query": resolve_encoder(query)}
        for side, path in paths.items():
            if Path(path).exists() and not (Path(path) / "config.json").is_file():
                raise ValueError(f"{side} {path!r} is no folder of a saved encoder: it has no config.json")
        try:
            self._loaded = load_encoders({**paths}, dict.fromkeys(SIDES))
        except OSError as error:  # it is found nowhere
            packaged = ", ".join((*IMAGE_ENCODERS, *TEXT_ENCODERS))
            raise OSError(f"{error}; encoders that come as packages: {packaged}") from error
        encoder = self._loaded["context"].encoder
        self.context = modality_of("context", encoder)
        if self.context.encoder_input == "input_ids":
            raise ValueError(
                f"context {context!r} is a {encoder.config.model_type} encoder; "
                "expected an encoder of images or sounds (are context and query exchanged?)"
            )
        modality_of("query", self._loaded["query"].encoder)  # raises if it is no text encoder
        if image_size != sized:
            resolve_encoder(context, image_size)
        self._probes: dict[tuple[TokenChoice, ...], OTMergeModel] = {}
        self.processor = OTMergeProcessor.from_encoders_pretrained(paths["context"], paths["query"])
        self.processor.check_model(self.probe({}))

    def check_kind(self, kind: str, rows: str) -> None:
        """Refuse rows about sounds for an encoder of images, and the other way round, before anything is encoded."""
        takes = "images" if self.context is IMAGE else "sounds"
        if kind != takes:
            raise ValueError(
                f"the {rows} are of {kind} and the context encoder takes {takes}; expected the same of both"
            )

    def widths(self, side: str) -> list[int]:
        """Width of each choice of one side's tokens."""
        return [self.probe({side: choice}).config.feature_dim(side) for choice in self.tokens[side]]

    def probe(self, tokens: Mapping[str, TokenChoice]) -> OTMergeModel:
        """The merge of these tokens (of a side left out: the first choice), with any adapters; made once, shared."""
        chosen = {side: tokens.get(side, self.tokens[side][0]) for side in SIDES}
        key = tuple(chosen.values())
        if key not in self._probes:
            self._probes[key] = self.build(chosen, shared_dim=4)
        return self._probes[key]

    def build(self, tokens: Mapping[str, TokenChoice], shared_dim: int) -> OTMergeModel:
        """Make a merge with linear adapters that are not fitted yet; all merges hold the same two encoders."""
        config = self._config(tokens, adapter_type="linear", shared_dim=shared_dim)
        return OTMergeModel(config, *(self._loaded[side].encoder for side in SIDES)).eval()

    def build_answering(self, tokens: Mapping[str, TokenChoice], **choices: Any) -> OTMergeForQuestionAnswering:
        """Make a merge with a fuser and an answer head, untrained; `choices` are fields of [`OTMergeConfig`]."""
        config = self._config(tokens, **choices)
        return OTMergeForQuestionAnswering(config, *(self._loaded[side].encoder for side in SIDES)).eval()

    def _config(self, tokens: Mapping[str, TokenChoice], **choices: Any) -> OTMergeConfig:
        for side, part in self._loaded.items():
            check_source(side, part.source, tokens[side])
            choices[f"{side}_tokens"] = tokens[side]
            choices[f"{side}_feature_dim"] = measure_width(side, part.encoder, tokens[side])
        configs = (self._loaded[side].config for side in SIDES)
        config = OTMergeConfig.from_encoder_configs(*configs, **choices)
        config.encoder_sources = {side: part.source for side, part in self._loaded.items()}
        return config

    def encode(
        self,
        side: str,
        choice: TokenChoice,
        inputs: Mapping[str, Sequence[Any]],
        *,
        cache_dir: str | os.PathLike,
        batch_size: int | None,
        device: str | torch.device,
        share: bool = True,
    ) -> dict[str, FeatureStore]:
        """Features of one side and choice of tokens, for several named lists of inputs."""
        model = self.probe({side: choice})
        model.to(device)  # type: ignore[arg-type]  # transformers wraps it and loses the signature
        options: dict[str, Any] = {"cache_dir": cache_dir, "batch_size": batch_size, "share": share}
        return {name: encode(model, self.processor, side, items, **options) for name, items in inputs.items()}
