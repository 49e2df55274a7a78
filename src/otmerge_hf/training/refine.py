"""From a closed form in the adapters, a short contrastive training that is kept only as far as validation gains."""

import copy
import math
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import torch
from datasets import Dataset
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from ..model.modeling_otmerge import OTMergeModel
from .adapter_checkpoints import AdapterCheckpoints
from .alignment_callbacks import ContrastiveLossCallback
from .refining import Pairs, RecallCallback, RowCollator, check_choices, feature_dropout, join_rows, training_name
from .two_stages import train_alignment


EVALUATIONS = 6
START_SCALE = 20.0  # inverse temperature, near where trainings on photographs and on emoji end


class Refinement(NamedTuple):
    """What [`refine_alignment`] did.

    Attributes:
        steps: Behind what the adapters now hold; 0 where validation did not gain and the start was kept.
        before: Mean Recall@1 of both directions on the validation pairs, in [0, 1], at the start; None without them.
        after: At the end.
        seconds: What it took.
    """

    steps: int
    before: float | None
    after: float | None
    seconds: float


def refine_alignment(
    model: OTMergeModel,
    train: Pairs,
    validation: Pairs | None,
    output_dir: str | os.PathLike,
    *,
    steps: int = 96,
    learning_rate: float = 0.09,
    batch_size: int = 1536,
    dropout: tuple[float, float] = (0.6, 0.0),
    seed: int = 0,
) -> Refinement:
    """Train a merge's affine adapters on mean features, contrastively, from the closed form that they hold.

    The stock Trainer with a [`ContrastiveLossCallback`] and dropout on the standardised features. Of six evaluations
    the best on validation is kept, or the start. Made again, an interrupted call goes on from its last evaluation.

    Args:
        model: A merge with a fit in its adapters, see [`OTMergeModel.load_alignment`].
        train: Mean features of both sides, (N, Dc) and (M, Dq), see [`features.mean_features`], and pairs (P, 2) or
            None for row i with row i. Pairs that share an input of the side with fewer are no negatives of each other.
        validation: The same of other pairs. None keeps the last step, for a refit on all rows.
        output_dir: Where checkpoints lie; they are deleted at the end.
        steps: Of AdamW, on a cosine schedule.
        learning_rate: At its peak, in units of the weights' root mean square: a fit's cosines do not tell its scale.
        batch_size: Pairs a step, at most.
        dropout: Share of the features of context and query that a step does not see; more for fewer distinct inputs.
        seed: Of batches and dropout.

    Returns:
        A [`Refinement`]; `model` changes in place.

    Raises:
        ValueError: If an argument is out of range, rows do not fit the model, or its adapters are not affine.

    Example:
        >>> import tempfile
        >>> from transformers import BertConfig, ViTConfig
        >>> from otmerge_hf import OTMergeConfig
        >>> small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> encoders = ViTConfig(**small), BertConfig(**small)
        >>> config = OTMergeConfig.from_encoder_configs(*encoders, shared_dim=8, adapter_type="linear")
        >>> x = torch.randn(60, 16)
        >>> train, validation = ((rows, rows.flip(1), None) for rows in (x[:40], x[40:]))
        >>> refined = refine_alignment(OTMergeModel(config), train, validation, tempfile.mkdtemp(), steps=16)
        >>> refined.after >= refined.before
        True
    """
    started = time.perf_counter()
    check_choices(steps, learning_rate, batch_size, dropout)
    features, pairs = join_rows(model, {"train": train} | ({"validation": validation} if validation else {}))
    rows = {name: Dataset.from_dict(columns) for name, columns in pairs.items()}
    parts = [model.get_submodule(name) for name in ("context_adapter", "query_adapter", "logit_scale")]
    start = copy.deepcopy([part.state_dict() for part in parts])
    weights = torch.cat([state[name].flatten() for state in start[:2] for name in state if state[name].ndim == 2])
    choices = (steps, learning_rate, batch_size, dropout, seed, pairs)
    folder = Path(output_dir) / training_name(choices, *start[:2], features)
    torch.nn.init.constant_(model.logit_scale.log_scale, math.log(START_SCALE))
    model.eval()

    each = max(steps // EVALUATIONS, 1)
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        learning_rate=learning_rate * weights.square().mean().sqrt().item(),
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.01,
        per_device_train_batch_size=min(batch_size, len(rows["train"])),
        per_device_eval_batch_size=1 if validation is None else min(256, len(rows["validation"])),
        dataloader_drop_last=True,  # the rest of an epoch would be a batch with few negatives
        dataloader_pin_memory=False,
        save_strategy="steps",
        save_steps=each,
        save_total_limit=1,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=model.device.type == "cpu",
        seed=seed,
        eval_strategy="steps" if validation else "no",
        eval_steps=each,
        load_best_model_at_end=bool(validation),
        metric_for_best_model=RecallCallback.metric if validation else None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    recall = RecallCallback(model, validation) if validation else None
    before = recall.score() if recall else None
    with feature_dropout(model, dropout):
        trainer = train_alignment(
            model,
            rows["train"],
            RowCollator(features),
            arguments,
            [ContrastiveLossCallback()],
            eval_pairs=rows.get("validation"),
            callbacks=[AdapterCheckpoints(), *([recall] if recall else [])],
            resume_from_checkpoint=get_last_checkpoint(folder),
        )
    shutil.rmtree(folder)
    model.eval()
    if before is None:
        return Refinement(steps, None, None, time.perf_counter() - started)
    after, done = trainer.state.best_metric, trainer.state.best_global_step
    if after is None or done is None or after <= before:
        after, done = before, 0
        for part, state in zip(parts, start, strict=True):
            part.load_state_dict(state)
    return Refinement(done, before, after, time.perf_counter() - started)
