"""A store of token features and a merge -> the rows' shared embeddings, which retrieval and scoring compare."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.modeling_otmerge import OTMergeForQuestionAnswering, OTMergeModel
from .means import mean_features
from .store import FeatureStore


# Adapters that are affine maps: they commute with the mean of the tokens.
AFFINE_ADAPTERS = ("linear", "orthogonal", "monge")


@torch.no_grad()
def embed(
    model: OTMergeModel | OTMergeForQuestionAnswering,
    store: FeatureStore,
    side: str,
    rows: Sequence[int] | Tensor | None = None,
    *,
    batch_size: int = 256,
) -> Tensor:
    r"""Shared embeddings of a store's rows: the mean of each row's shared tokens.

    $$ z_i = \frac{1}{|S_i|} \sum_{t \in S_i} f(x_{it}), \quad
       \text{which is } f(\bar x_i) \text{ where the adapter } f \text{ is affine} $$

    With an affine adapter (`linear`, `orthogonal`, `monge`) only the rows' means from [`mean_features`] are mapped.

    Args:
        model: The merge.
        store: Features of one side, from [`encode`].
        side: `"context"` or `"query"`: whose features they are.
        rows: B row numbers in [0, N), repeats allowed; all N by default.

    Returns:
        (B, D), D the shared width, on the model's device, in its dtype, without gradient.

    Raises:
        IndexError: If a row number is not in [0, N).
        ValueError: If `side` is unknown, `rows` is empty, `batch_size` is below 1, or the store has another width
            than the side's encoder.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, ViTConfig
        >>> from otmerge_hf import OTMergeConfig
        >>> from otmerge_hf.features import compute_features
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> config = OTMergeConfig.from_encoder_configs(ViTConfig(**small), BertConfig(**small), shared_dim=8)
        >>> tokens = lambda texts: (torch.ones(len(texts), 3, 16), None)
        >>> store = compute_features(tokens, ["a", "b"], cache_dir=tempfile.mkdtemp(), key={})
        >>> embed(OTMergeModel(config), store, "query").shape
        torch.Size([2, 8])
    """
    if side not in ("context", "query"):
        raise ValueError(f"side must be context or query; got {side!r}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    base = model if isinstance(model, OTMergeModel) else model.otmerge
    numbers = list(range(len(store))) if rows is None else torch.as_tensor(rows).tolist()
    store.check_rows(numbers)
    means = mean_features(store, rows) if base.config.adapter_type in AFFINE_ADAPTERS else None  # (B, D_side)
    get_embeds = base.get_context_embeds if side == "context" else base.get_query_embeds
    parts = []
    for start in range(0, len(numbers), batch_size):
        if means is not None:
            features, mask = means[start : start + batch_size, None], None  # (b, 1, D_side)
        else:
            features, mask = store.batch(numbers[start : start + batch_size])  # (b, S, D_side), (b, S)
            mask = mask.to(base.device)
        parts.append(get_embeds(**{f"{side}_features": features.to(base.device), f"{side}_features_mask": mask}))
    return torch.cat(parts)
