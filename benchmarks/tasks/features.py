"""Lists of photographs and lists of texts -> one feature store a side; a list is encoded once, whoever needs it."""

from pathlib import Path

import torch

from otmerge_hf.features import FeatureStore, encode
from otmerge_hf.model.modeling_otmerge import OTMergeModel
from otmerge_hf.model.processing_otmerge import OTMergeProcessor

from ..runner.encoding import encoder_folders
from ..runner.recipe import Recipe
from .joined_store import join_stores


DTYPE = torch.float16  # 8,000 photographs of 49 tokens are 1 GB


def encode_lists(
    recipe: Recipe, photographs: list[list[Path]], texts: list[list[str]], cache_dir: Path
) -> tuple[FeatureStore, FeatureStore]:
    """Encode what is not in the cache, and put the lists of a side in a row.

    Args:
        recipe: Its encoders, image size and tokens.
        photographs: Lists of distinct files.
        texts: Lists of distinct texts.
        cache_dir: Where features are kept.

    Returns:
        The stores of the photographs and of the texts.
    """
    folders = encoder_folders(recipe)
    processor = OTMergeProcessor.from_encoders_pretrained(*folders)
    model = OTMergeModel.from_encoders_pretrained(
        *folders, context_tokens=recipe.context_tokens, query_tokens=recipe.query_tokens, adapter_type="linear"
    )

    def joined(side: str, lists: list[list[Path]] | list[list[str]]) -> FeatureStore:
        stores = [
            encode(model, processor, side, given, cache_dir=cache_dir, batch_size=16, dtype=DTYPE, verify="size")
            for given in lists
        ]
        return stores[0] if len(stores) == 1 else join_stores(stores, cache_dir)

    return joined("context", photographs), joined("query", texts)
