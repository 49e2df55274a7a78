"""The encoders that the command line names -> merges of any choice of tokens, and their features."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from .. import OTMergeModel, OTMergeProcessor
from ..features import FeatureStore, encode
from ._encoders import resolve_encoder
from ._splits import PairSplit


SIDES = ("context", "query")


class Merge:
    """The two encoders and their processor, for any choice of tokens."""

    def __init__(self, arguments: Namespace) -> None:
        """Read both encoders; a ValueError or OSError says which one does not do."""
        self.arguments = arguments
        self.tokens = {side: list(dict.fromkeys(getattr(arguments, f"{side}_tokens"))) for side in SIDES}
        self.paths = (resolve_encoder(arguments.context, arguments.image_size), resolve_encoder(arguments.query))
        self._models: dict[tuple, OTMergeModel] = {}
        for path, side in zip(self.paths, SIDES, strict=True):
            if Path(path).exists() and not (Path(path) / "config.json").is_file():
                raise ValueError(f"--{side} {path!r} is no folder of a saved encoder: it has no config.json")
        first = self.build({side: self.tokens[side][0] for side in SIDES})
        if first.context_encoder.main_input_name != "pixel_values":
            raise ValueError(
                f"--context {arguments.context!r} is a {first.context_encoder.config.model_type} encoder; "
                "expected an image encoder (are context and query exchanged?)"
            )
        self.processor = OTMergeProcessor.from_encoders_pretrained(*self.paths)
        self.processor.check_model(first)

    def build(self, tokens: dict[str, str | int], shared_dim: int | None = None) -> OTMergeModel:
        """Make the merge of one choice of tokens; encoders are read again, so that each choice stands alone."""
        key = (tuple(tokens.values()), shared_dim)
        if key not in self._models:
            width = shared_dim or 4
            # Whoever puts a fuser on top later chooses its heads; here they only must divide the width.
            fits_fuser = width % 4 == 0
            choices: dict[str, Any] = {} if fits_fuser else {"fuser_num_heads": 1, "context_positions": "none"}
            choices |= {f"{side}_tokens": value for side, value in tokens.items()}
            model = OTMergeModel.from_encoders_pretrained(
                *self.paths, adapter_type="linear", shared_dim=width, **choices
            )
            self._models[key] = model.eval()
        return self._models[key]

    def features(self, side: str, tokens: str | int, splits: dict[str, PairSplit]) -> dict[str, FeatureStore]:
        """Features of one side and choice of tokens, for every split."""
        other = SIDES[1 - SIDES.index(side)]
        model = self.build({name: tokens if name == side else self.tokens[other][0] for name in SIDES})
        model.to(self.arguments.device)
        options = {"cache_dir": self.arguments.cache_dir, "batch_size": self.arguments.batch_size}
        return {
            name: encode(model, self.processor, side, split.images if side == "context" else split.texts, **options)
            for name, split in splits.items()
        }
