"""Negative controls: both encoders' weights merged into one, as it is done between copies of one architecture."""

import copy
from collections.abc import Callable, Sequence

import torch
from transformers import AutoModel, PreTrainedModel

from otmerge_hf.features import FeatureStore, compute_features, encoder_key
from otmerge_hf.model.encoders import run_encoder
from otmerge_hf.model.fusers import masked_mean

from ..runner.recipe import Recipe
from ..tasks.task import Task
from .stages import Fitted, learn_answers
from .weights import State, average, fisher, regmean, require_same_architecture


Merge = Callable[[list[PreTrainedModel], list[list[dict]]], State]
_SAMPLE = 64  # inputs a side that importance and Gram matrices are estimated on


def weight_average(task: Task, recipe: Recipe) -> Fitted:
    """Average the encoders' weights; not applicable where the architectures differ."""
    return _fit(task, recipe, lambda models, batches: average([model.state_dict() for model in models]))


def fisher_average(task: Task, recipe: Recipe) -> Fitted:
    """Weight each entry by how much the encoder's output depends on it."""

    def merge(models: list, batches: list) -> State:
        importance = [fisher(model, given, embedding) for model, given in zip(models, batches, strict=True)]
        return average([model.state_dict() for model in models], importance)

    return _fit(task, recipe, merge)


def regmean_average(task: Task, recipe: Recipe) -> Fitted:
    """Merge by RegMean: linear layers that best repeat both encoders' outputs, all else averaged."""
    return _fit(task, recipe, lambda models, batches: regmean(models, batches))


def _fit(task: Task, recipe: Recipe, merge: Merge) -> Fitted:
    """Merge the encoders' weights, let the result encode both sides, and go on as `no_alignment`.

    The query encoder reads text, so that only a context of text can have an encoder of its architecture.

    Raises:
        NotApplicable: If the architectures differ.
    """
    encoders = [_load(source) for source in (task.context_encoder, task.query_encoder)]
    require_same_architecture(*encoders)
    sides = {"context": task.contexts, "query": task.queries}
    rows = {side: sorted(set(task.train.columns[f"{side}_features"])) for side in sides}
    tokenizer = task.require_processor().tokenizer
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
    return learn_answers(used, Fitted(model=used.build(recipe), task=used), recipe, "both")


def embedding(outputs: object) -> torch.Tensor:
    """Mean of the last hidden state's tokens: (1, S, D) -> (1, D)."""
    return masked_mean(outputs.last_hidden_state, None)  # type: ignore[attr-defined]


def _features(task: Task, encoder: PreTrainedModel, texts: Sequence[str]) -> FeatureStore:
    tokenizer = task.require_processor().tokenizer

    def encode(batch: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        made = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
        return run_encoder(encoder, {"input_ids": made["input_ids"]}, "last_hidden_state", made["attention_mask"])

    key = encoder_key(encoder, tokenizer, tokens="last_hidden_state", dtype=encoder.dtype)
    return compute_features(encode, texts, cache_dir=task.scratch, key=key, batch_size=64, progress=False)


def _load(source: str | PreTrainedModel) -> PreTrainedModel:
    model = copy.deepcopy(source) if isinstance(source, PreTrainedModel) else AutoModel.from_pretrained(source)
    return model.eval()
