"""How much of the frozen features a merge's adapters can give back."""

import torch

from otmerge_hf.features import FeatureStore
from otmerge_hf.losses import reconstruction_loss
from otmerge_hf.model.modeling_otmerge import OTMergeModel

from ..tasks.task import Task


@torch.no_grad()
def reconstruction_errors(model: OTMergeModel, task: Task, most: int = 1024) -> dict[str, float | None]:
    """Mean squared error of `adapter.inverse(adapter(x))` on standardised features of the test rows, by side.

    Args:
        model: The trained merge.
        task: Its test rows and features.
        most: Inputs of a side that are looked at.

    Returns:
        `context` and `query`: 0 is exact, 1 as good as always giving the mean; None for an adapter without an inverse.
    """
    model.eval()
    errors: dict[str, float | None] = {}
    stores: dict[str, FeatureStore] = {"context": task.context_store, "query": task.query_store}
    for side, store in stores.items():
        adapter = getattr(model, f"{side}_adapter")
        if adapter.invertibility == "none":
            errors[side] = None
            continue
        rows = sorted(set(task.test.columns[f"{side}_features"]))
        features, mask = store.batch(rows[:: -(-len(rows) // most)])
        tokens, mask = model.encode(side, {}, mask, features)
        errors[side] = reconstruction_loss(adapter.inverse(adapter(tokens)), tokens, mask).item()
    return errors
