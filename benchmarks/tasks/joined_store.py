"""Feature stores, one after another -> one store whose files are links to theirs: nothing is copied or encoded."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from otmerge_hf.features import FeatureStore
from otmerge_hf.features.keys import digest
from otmerge_hf.features.shards import INDEX, read_index, write_index


def join_stores(stores: Sequence[FeatureStore], cache_dir: Path) -> FeatureStore:
    """Put stores in a row: the rows of the second follow those of the first, and so on.

    Args:
        stores: Stores in folders of `cache_dir`, of one width and dtype.
        cache_dir: Where the folder of links is made; links are relative, so the cache can be moved as a whole.

    Raises:
        ValueError: If `stores` is empty, or widths or dtypes differ.
    """
    kinds = {(store.feature_dim, store.dtype) for store in stores}
    if len(kinds) != 1:
        raise ValueError(f"`stores` have features of {sorted(map(str, kinds))}; expected one width and dtype.")
    folder = cache_dir / digest({"joined": [store.shards_digest for store in stores]})[:32]
    if not (folder / INDEX).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shards, start = [], 0
        for place, store in enumerate(stores):
            for shard in read_index(store.folder)["shards"]:
                link = folder / f"{place}-{shard.file}"
                link.unlink(missing_ok=True)  # of an interrupted call
                link.symlink_to(os.path.relpath(store.folder.resolve() / shard.file, folder.resolve()))
                shards.append(replace(shard, file=link.name, first=start + shard.first, last=start + shard.last))
            start += len(store)
        write_index(folder, {"joined": [store.key for store in stores]}, *kinds.pop(), shards)
    return FeatureStore(folder, verify="size")
