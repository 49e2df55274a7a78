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


class TokenRows(list):
    """Random token ids of both sides, and an answer a row."""

    def __init__(self, rows):
        generator = torch.Generator().manual_seed(1)
        for row in range(rows):
            ids = torch.randint(1, 30, (2, 5), generator=generator)
            self.append({"context_input_ids": ids[0], "input_ids": ids[1], "labels": row % 3})


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
    """Losses, temperatures and wrappers of: align without and with a contrastive term, then learn answers.

    And once more from raw inputs, with encoders that learn and decoders that no term reads.
    """
    torch.manual_seed(0)
    model = OTMergeForQuestionAnswering(tiny_config(num_labels=3, fuser_dropout=0.0))
    data = TinyFeatures(16, answers=3)
    unlabelled = [{k: v for k, v in row.items() if k != "labels"} for row in data.rows]
    whole = OTMergeForQuestionAnswering(tiny_config(num_labels=3, freeze_encoders=False, reconstruction=True))
    for module in whole.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # two ranks draw other units than one
    result = []
    alone = [PairedLossCallback(), VarianceLossCallback()], [ContrastiveLossCallback()], None, "stock"
    for place, terms in enumerate([*alone, [PairedLossCallback()], None]):
        if place == len(alone):
            model, data = whole, TokenRows(16)
            unlabelled = [{k: v for k, v in row.items() if k != "labels"} for row in data]
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
    # both ranks end together: one that is torn down while the other still talks to it ends the process
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
