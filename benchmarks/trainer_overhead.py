"""Time an epoch on cached features: the stock Trainer with our collator against a bare loop over the same modules.

    python benchmarks/trainer_overhead.py            # an epoch of 38,575 rows, three rounds: several minutes
    python benchmarks/trainer_overhead.py --quick    # 2,560 rows, three rounds: under a minute

The two take turns, and each round's ratio is taken by itself, so that what else the machine does falls on both. The
bare loop holds every feature in memory as one padded tensor, calls standardiser, adapters, fuser and head by hand, and
makes the same AdamW steps with the same clipping and schedule; it has neither checks nor logs nor similarities. The
features are random, in the shapes of the demonstration's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, get_cosine_schedule_with_warmup
from transformers.utils import logging as transformers_logging

from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.baselines import Rows
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features import FeatureCollator, FeatureStore, compute_features
from otmerge_hf.suites.measure import machine
from otmerge_hf.training import set_stage


HERE = Path(__file__).parent
BAR = 1.5
IMAGES, TEXTS, CONTEXT_DIM, QUERY_DIM = 4000, 107, 112, 384


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,560 rows, three rounds")
    parser.add_argument("--rows", type=int, default=38_575, help="rows of an epoch")
    parser.add_argument("--rounds", type=int, default=3, help="turns")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for trainer_overhead.json")
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    count = 2560 if options.quick else options.rows
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        stores = [store(folder, side, generator) for side in ("context", "query")]
        rows = Rows(
            torch.randint(IMAGES, (count,), generator=generator).tolist(),
            torch.randint(TEXTS, (count,), generator=generator).tolist(),
            torch.randint(13, (count,), generator=generator).tolist(),
        )
        turns = []
        for _ in range(options.rounds):
            trainer = time_trainer(build(), rows, stores, options.batch_size, folder)
            turns.append({"trainer": trainer, "bare": time_bare(build(), rows, stores, options.batch_size)})
    report: dict[str, Any] = {"machine": machine(), "rows": count, "batch_size": options.batch_size, "turns": turns}
    for name in ("wall", "cpu"):
        report[f"{name}_ratio"] = statistics.median(turn["trainer"][name] / turn["bare"][name] for turn in turns)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "trainer_overhead.json").write_text(json.dumps(report, indent=1) + "\n")
    for place in ("trainer", "bare"):
        wall = statistics.median(turn[place]["wall"] for turn in turns)
        print(f"{place:8} {wall:8.2f} s an epoch of {count:,} rows (median of {len(turns)})")
    verdict = "met" if report["wall_ratio"] <= BAR else "missed"
    print(f"ratio    {report['wall_ratio']:8.2f} wall, {report['cpu_ratio']:.2f} CPU; bar {BAR}: {verdict}")


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
    model: OTMergeForQuestionAnswering, rows: Rows, stores: list[FeatureStore], batch_size: int, folder: str
) -> dict[str, float]:
    """One epoch of the stock Trainer, as the methods of `otmerge benchmark` run it."""
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
    model: OTMergeForQuestionAnswering, rows: Rows, stores: list[FeatureStore], batch_size: int
) -> dict[str, float]:
    """One epoch by hand over the same modules."""
    context, _ = stores[0].batch(range(IMAGES))
    query, query_mask = stores[1].batch(range(TEXTS))
    columns = [torch.tensor(column) for column in rows.columns.values()]
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=1e-3, weight_decay=0.01)
    steps = -(-len(rows) // batch_size)
    schedule = get_cosine_schedule_with_warmup(optimizer, 20, steps)
    base = model.otmerge
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


if __name__ == "__main__":
    main()
