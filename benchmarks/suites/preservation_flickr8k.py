"""One adapter of the suite `preservation` on Flickr8k: aligned, then asked what it gives back."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainingArguments, set_seed

from otmerge_hf.alignment import CCA, AffineMap, Procrustes
from otmerge_hf.alignment.base import Alignment
from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.data import load_pair_splits
from otmerge_hf.features import mean_features
from otmerge_hf.model.modality import SIDES
from otmerge_hf.model.modeling_otmerge import OTMergeModel
from otmerge_hf.training import (
    ContrastiveLossCallback,
    LossTermCallback,
    ReconstructionLossCallback,
    refine_alignment,
    train_alignment,
)
from otmerge_hf.training.refining import RowCollator

from ..methods.read_out import ReadOutAdapter
from ..runner.cell import Record
from .preservation_kept import measure_kept


IMAGE_ENCODER, TEXT_ENCODER, TOKENS = "efficientnet-lite0", "minilm-l6", "last_hidden_state"
REGULARIZATION = 0.3  # the best of five on the validation photographs
STEPS, BATCH, LEARNING_RATE, DROPOUT = 150, 1024, 1e-3, 0.6
Rows = tuple[Tensor, Tensor, Tensor]


def measure(choices: Mapping[str, Any], data: Path, cache: Path) -> Record:
    """Align by the cell's adapter on the training photographs, measure on the test photographs."""
    pair = encoder_pair()
    rows = read_rows(pair, data, cache)
    return measure_kept(align(choices, pair, rows), rows, IMAGE_ENCODER)


def encoder_pair() -> EncoderPair:
    """Both encoders of the suite."""
    return EncoderPair(IMAGE_ENCODER, TEXT_ENCODER, {side: [TOKENS] for side in SIDES})


def align(choices: Mapping[str, Any], pair: EncoderPair, rows: dict[str, Tensor]) -> OTMergeModel:
    """The merge with the cell's adapters, aligned on the rows of training."""
    set_seed(choices["seed"])
    with tempfile.TemporaryDirectory() as scratch:
        return _aligned(choices, pair, rows, Path(scratch)).eval()


def read_rows(pair: EncoderPair, data: Path, cache: Path) -> dict[str, Tensor]:
    """Mean features, pairs and statistics: `train.context`, `train.pairs`, `mean.context`; made once for all cells."""
    file = cache / "preservation.safetensors"
    if file.exists():
        return load_file(file)
    rows: dict[str, Tensor] = {}
    splits = load_pair_splits(str(data / "flickr8k"))
    for side, kind in zip(SIDES, ("images", "texts"), strict=True):
        inputs = {name: getattr(split, kind) for name, split in splits.items()}
        stores = pair.encode(side, TOKENS, inputs, cache_dir=cache / "flickr8k", batch_size=None, device="cpu")
        rows |= {f"{name}.{side}": mean_features(store) for name, store in stores.items()}
        rows[f"mean.{side}"], rows[f"std.{side}"] = stores["train"].statistics()
    rows |= {f"{name}.pairs": torch.as_tensor(split.pairs).contiguous() for name, split in splits.items()}
    save_file(rows, file)
    return rows


def _aligned(choices: Mapping[str, Any], pair: EncoderPair, rows: dict[str, Tensor], scratch: Path) -> OTMergeModel:
    kind, width, scale = choices["adapter"], choices["shared_dim"], choices["scale"]
    widths = {side: rows[f"train.{side}"].shape[1] for side in SIDES}
    whole = max(widths.values()) if scale else width

    def build(adapter_type: str, shared_dim: int, **options: Any) -> OTMergeModel:
        tokens: dict[str, Any] = dict.fromkeys(SIDES, TOKENS)
        options |= {"adapter_type": adapter_type, "shared_dim": shared_dim}
        model = pair.build_answering(tokens, linear_path=[], **options).otmerge
        model.fit_standardization(**{side: (rows[f"mean.{side}"], rows[f"std.{side}"]) for side in SIDES})
        return model

    weight = choices["reconstruction_weight"]
    model = build("mlp" if kind == "mlp" else "linear", width, reconstruction=weight > 0)
    standard = [getattr(model, f"{side}_standardizer")(rows[f"train.{side}"]).detach() for side in SIDES]
    if kind == "mlp":
        terms = [ContrastiveLossCallback(1.0), *([ReconstructionLossCallback(weight)] if weight else [])]
        return _trained(model, rows, terms, choices["seed"], scratch)
    fit = _fit(kind, width).fit(standard[0], standard[1], rows["train.pairs"])
    if kind == "coupling":
        maps = fit.context_map_, fit.query_map_
        for side, affine in zip(SIDES, maps, strict=True):
            full = affine.completed(widths[side], scale=1.0)
            start = {"read": width, "lead": width, "scale": scale, "couplings": 2, "hidden_dim": 256}
            adapter = ReadOutAdapter(widths[side], whole, **start, start=full.weight, bias=affine.bias)
            setattr(model, f"{side}_adapter", adapter)
        model.config.shared_dim = whole
        return _trained(model, rows, [ContrastiveLossCallback(1.0)], choices["seed"], scratch)
    model.load_alignment(fit, standardized=True)
    if kind == "linear":
        train, validation = (
            (rows[f"{name}.context"], rows[f"{name}.query"], rows[f"{name}.pairs"]) for name in ("train", "validation")
        )
        refine_alignment(model, train, validation, scratch, batch_size=2048, seed=choices["seed"])
    if scale is None:
        return model
    completed = build("linear", whole)
    for side in SIDES:
        adapter = getattr(model, f"{side}_adapter").map
        full = AffineMap(adapter.weight.detach(), adapter.bias.detach()).completed(whole, scale)
        getattr(completed, f"{side}_adapter").load_affine(*full)
    return completed


def _fit(kind: str, width: int) -> Alignment:
    if kind == "pca":
        return _PCA(width)
    return Procrustes(width) if kind == "procrustes" else CCA(REGULARIZATION, shared_dim=width)


class _PCA(Alignment):
    """Principal components of each side by itself: aligned by nothing."""

    def __init__(self, shared_dim: int) -> None:
        self.shared_dim = shared_dim

    def fit(self, context: Tensor, query: Tensor, pairs: Any = None) -> Self:
        """Fit both sides; pairs are not used."""
        sides = [side.double() for side in (context, query)]
        weights = [torch.linalg.eigh(torch.cov(side.T)).eigenvectors.flip(1)[:, : self.shared_dim].T for side in sides]
        self._set_maps((weights[0], weights[1]), (sides[0].mean(0), sides[1].mean(0)), context.dtype, n_pairs=0)
        return self


def _trained(
    model: OTMergeModel, rows: dict[str, Tensor], terms: list[LossTermCallback], seed: int, scratch: Path
) -> OTMergeModel:
    """Contrastively, with dropout on what the image adapter sees (the decoder's target stays whole)."""
    contexts, queries = rows["train.pairs"].T.tolist()
    columns = {"context_features": contexts, "query_features": queries, "group_ids": contexts}
    arguments = TrainingArguments(
        str(scratch),
        max_steps=STEPS,
        per_device_train_batch_size=min(BATCH, len(contexts)),
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.01,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=seed,
    )

    def drop(module: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.dropout(given[0], DROPOUT, module.training)

    nn.init.constant_(model.logit_scale.log_scale, 3.0)  # 20, as `refine_alignment` starts
    hook = model.get_submodule("context_adapter").register_forward_pre_hook(drop)
    features = {f"{side}_features": rows[f"train.{side}"] for side in SIDES}
    train_alignment(model, Dataset.from_dict(columns), RowCollator(features), arguments, terms)
    hook.remove()
    return model
