"""A store of token features -> one mean vector a row, which closed-form fits and retrieval read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .remembered import remember
from .store import FeatureStore


# Rows read at a time: 256 rows of 512 tokens and 1024 features are 512 MiB in float32.
CHUNK_ROWS = 256


def mean_features(store: FeatureStore, ids: Sequence[int] | Tensor | None = None) -> Tensor:
    r"""Mean of every row's real tokens.

    $$ \bar x_i = \frac{1}{|S_i|} \sum_{t \in S_i} x_{it} $$

    An affine map of the tokens commutes with their mean, so a fit on these serves every token
    ([`OTMergeModel.load_alignment`]). The means of all rows are computed once and kept in the store's folder.

    Shapes: B row numbers `ids`, repeats allowed (all of the store by default) -> (B, D), float32, in feature units.

    Raises:
        IndexError: If a row number is not in [0, N).
        ValueError: If `ids` is empty.

    Example:
        >>> import tempfile
        >>> from otmerge_hf.features import compute_features
        >>> encode = lambda texts: (torch.ones(len(texts), 3, 8), None)
        >>> store = compute_features(encode, ["a", "b"], cache_dir=tempfile.mkdtemp(), key={})
        >>> mean_features(store).shape
        torch.Size([2, 8])
    """
    if ids is not None:
        return _means(store, torch.as_tensor(ids).tolist())
    path, everything = store.folder / "means.safetensors", list(range(len(store)))
    return remember(path, store.shards_digest, lambda: {"means": _means(store, everything)})["means"]


def _means(store: FeatureStore, rows: list[int]) -> Tensor:
    store.check_rows(rows)
    means = torch.empty(len(rows), store.feature_dim)
    for start in range(0, len(rows), CHUNK_ROWS):
        tokens, mask = store.batch(rows[start : start + CHUNK_ROWS])  # (B, S, D), (B, S); padding is zero
        counts = mask.sum(dim=1, keepdim=True)  # (B, 1)
        means[start : start + CHUNK_ROWS] = tokens.sum(dim=1, dtype=torch.float32) / counts
    return means
