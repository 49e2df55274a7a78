"""One of two processes that go through both stages under gradient checkpointing; started by test_two_ranks.py."""

import json
import os
import sys

import torch
from tiny_training import TinyFeatures, build_trainer, tiny_config
from transformers import TrainerCallback, TrainingArguments, default_data_collator

from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.training import (
    ContrastiveLossCallback,
    PairedLossCallback,
    VarianceLossCallback,
    train_alignment,
    train_answers,
)


class Temperature(TrainerCallback):
    """The temperature after every step, and what it is wrapped in."""

    def __init__(self):
        self.values = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.values.append(next(p for n, p in model.named_parameters() if "log_scale" in n).item())


def arguments(folder, processes):
    return TrainingArguments(
        output_dir=folder,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        max_steps=2,
        logging_steps=1,
        save_strategy="no",
        optim="sgd",
        learning_rate=1e-2,
        per_device_train_batch_size=8 // processes,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )


def train(folder, processes):
    """Losses, temperatures and wrappers of: align without and with a contrastive term, then learn answers."""
    torch.manual_seed(0)
    model = OTMergeForQuestionAnswering(tiny_config(num_labels=3, fuser_dropout=0.0))
    data = TinyFeatures(16, answers=3)
    unlabelled = [{k: v for k, v in row.items() if k != "labels"} for row in data.rows]
    result = []
    for terms in ([PairedLossCallback(), VarianceLossCallback()], [ContrastiveLossCallback()], None, "stock"):
        seen = Temperature()
        options = {"callbacks": [seen]}
        if terms is None:
            trainer = train_answers(model, data, default_data_collator, arguments(folder, processes), **options)
        elif terms == "stock":  # what learns was not set; the callbacks decide about the temperature
            model.otmerge.requires_grad_(True).freeze_encoders()
            trainer = build_trainer(
                folder,
                model.otmerge,
                [PairedLossCallback(), seen],
                dataset=unlabelled,
                max_steps=2,
                optim="sgd",
                per_device_train_batch_size=8 // processes,
                gradient_checkpointing=True,
            )
            trainer.train()
        else:
            trainer = train_alignment(
                model, unlabelled, default_data_collator, arguments(folder, processes), terms, **options
            )
        result.append(
            {
                "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
                "temperature": seen.values,
                "wrapper": type(trainer.model_wrapped).__name__,
            }
        )
    return result


if __name__ == "__main__":
    folder, target = sys.argv[1:]
    result = train(folder, 2)
    if os.environ["RANK"] == "0":
        with open(target, "w") as file:
            json.dump(result, file)
