"""Measuring of the suite `trainer-overhead`: the Trainer's epoch and the bare loop's."""

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, get_cosine_schedule_with_warmup

from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features import FeatureCollator, FeatureStore, compute_features
from otmerge_hf.training import set_stage

from ..tasks.task import Rows


IMAGES, TEXTS, CONTEXT_DIM, QUERY_DIM = 4000, 107, 112, 384


def compare(count: int, batch_size: int, rounds: int, report_progress: Callable[[float], None]) -> dict[str, Any]:
    """Seconds of both, turn by turn, and the median of the turns' ratios."""
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        stores = store(folder, "context", generator), store(folder, "query", generator)
        rows = Rows(
            torch.randint(IMAGES, (count,), generator=generator).tolist(),
            torch.randint(TEXTS, (count,), generator=generator).tolist(),
            torch.randint(13, (count,), generator=generator).tolist(),
        )
        turns = []
        for turn in range(rounds):
            trainer = time_trainer(build(), rows, stores, batch_size, folder)
            turns.append({"trainer": trainer, "bare": time_bare(build(), rows, stores, batch_size)})
            report_progress((turn + 1) / rounds)
    ratios = {
        f"{name}_ratio": statistics.median(turn["trainer"][name] / turn["bare"][name] for turn in turns)
        for name in ("wall", "cpu")
    }
    return {"turns": turns} | ratios


def store(folder: str, side: str, generator: torch.Generator) -> FeatureStore:
    """Random features: 16 tokens an image, 6 to 14 tokens a text."""
    count, dim = (IMAGES, CONTEXT_DIM) if side == "context" else (TEXTS, QUERY_DIM)

    def encode(batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.randint(6, 15, (len(batch), 1), generator=generator) if side == "query" else torch.tensor(16)
        longest = int(lengths.max())
        mask = (torch.arange(longest) < lengths).long().expand(len(batch), longest)
        return torch.randn(len(batch), longest, dim, generator=generator), mask

    return compute_features(
        encode, list(range(count)), cache_dir=f"{folder}/{side}", key={}, batch_size=256, progress=False
    )


def build() -> OTMergeForQuestionAnswering:
    """The demonstration's merge, adapters and fuser learning."""
    torch.manual_seed(0)
    context, query = str(convert_efficientnet_lite(image_size=64)), str(minilm_l6_path())
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(context, query, context_tokens=11, num_labels=13)
    set_stage(model, "both")
    return model


class EpochClock(TrainerCallback):
    """Wall and CPU seconds of the epoch itself, without the Trainer's start."""

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.start = (time.perf_counter(), time.process_time())

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.spent = since(self.start)


def since(start: tuple[float, float]) -> dict[str, float]:
    """Seconds since a start."""
    return {"wall": time.perf_counter() - start[0], "cpu": time.process_time() - start[1]}


def time_trainer(
    model: OTMergeForQuestionAnswering,
    rows: Rows,
    stores: tuple[FeatureStore, FeatureStore],
    batch_size: int,
    folder: str,
) -> dict[str, float]:
    """One epoch of the stock Trainer, as the methods of `easy-vqa` run it."""
    clock = EpochClock()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=f"{folder}/trainer",
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=20,
            weight_decay=0.01,
            logging_steps=50,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=FeatureCollator(*stores),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return clock.spent


def time_bare(
    model: OTMergeForQuestionAnswering, rows: Rows, stores: tuple[FeatureStore, FeatureStore], batch_size: int
) -> dict[str, float]:
    """One epoch by hand over the same modules."""
    context, _ = stores[0].batch(range(IMAGES))
    query, query_mask = stores[1].batch(range(TEXTS))
    columns = [torch.tensor(column) for column in rows.columns.values()]
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=1e-3, weight_decay=0.01)
    steps = -(-len(rows) // batch_size)
    schedule = get_cosine_schedule_with_warmup(optimizer, 20, steps)
    base: Any = model.otmerge
    model.train()
    start = (time.perf_counter(), time.process_time())
    for chosen in torch.randperm(len(rows)).split(batch_size):
        images, texts, labels = (column[chosen] for column in columns)
        mask = query_mask[texts]
        longest = int(mask.sum(dim=1).max())
        mask = mask[:, :longest]
        context_shared = base.context_adapter(base.context_standardizer(context[images]))
        query_shared = base.query_adapter(base.query_standardizer(query[texts, :longest]))
        fused = model.fuser(query_shared, model.positions(context_shared), mask, None).vector
        loss = nn.functional.cross_entropy(model.classifier(fused), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return since(start)
