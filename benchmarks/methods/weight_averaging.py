"""What `weight_average`, `fisher` and `regmean` share: one text encoder in the place of two."""

import copy
from collections.abc import Callable, Sequence

import torch
from transformers import AutoModel, PreTrainedModel

from ..features import FeatureStore, compute_features, encoder_key
from ..model.encoders import run_encoder
from ..model.fusers import masked_mean
from .fitting import Fitted, fuse
from .recipe import Recipe
from .task import Task
from .weights import State, require_same_architecture


Merge = Callable[[list[PreTrainedModel], list[list[dict]]], State]
_SAMPLE = 64  # inputs a side that importance and Gram matrices are estimated on


def fit_merged_weights(task: Task, recipe: Recipe, merge: Merge) -> Fitted:
    """Merge the encoders' weights, let the result encode both sides, and go on as `no_alignment`.

    The query encoder reads text, so that only a context of text can have an encoder of its architecture.

    Raises:
        Refused: If the architectures differ.
    """
    encoders = [_load(source) for source in (task.context_encoder, task.query_encoder)]
    require_same_architecture(*encoders)
    sides = {"context": task.contexts, "query": task.queries}
    rows = {side: sorted(set(task.train.columns[f"{side}_features"])) for side in sides}
    tokenizer = task.need_processor().tokenizer
    batches = [
        [dict(tokenizer([inputs[row]], return_tensors="pt")) for row in rows[side][:_SAMPLE]]
        for side, inputs in sides.items()
    ]
    state = merge(encoders, batches)
    for encoder in encoders:
        encoder.load_state_dict(state)
    used = copy.copy(task)
    used.context_encoder, used.query_encoder = encoders
    used.context_store, used.query_store = (_features(task, encoders[0], inputs) for inputs in sides.values())
    stores = {"context": used.context_store, "query": used.query_store}
    used.statistics = {side: store.statistics(rows[side]) for side, store in stores.items()}
    return fuse(used, Fitted(model=used.build(recipe), task=used), recipe, "both")


def embedding(outputs: object) -> torch.Tensor:
    """Mean of the last hidden state's tokens: (1, S, D) -> (1, D)."""
    return masked_mean(outputs.last_hidden_state, None)  # type: ignore[attr-defined]


def _features(task: Task, encoder: PreTrainedModel, texts: Sequence[str]) -> FeatureStore:
    tokenizer = task.need_processor().tokenizer

    def encode(batch: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        made = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
        return run_encoder(encoder, {"input_ids": made["input_ids"]}, "last_hidden_state", made["attention_mask"])

    key = encoder_key(encoder, tokenizer, tokens="last_hidden_state", dtype=encoder.dtype)
    return compute_features(encode, texts, cache_dir=task.scratch, key=key, batch_size=64, progress=False)


def _load(source: str | PreTrainedModel) -> PreTrainedModel:
    model = copy.deepcopy(source) if isinstance(source, PreTrainedModel) else AutoModel.from_pretrained(source)
    return model.eval()
