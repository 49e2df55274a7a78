"""One of two processes of a distributed training; started by test_two_ranks.py."""

import json
import os
import sys

import torch
from tiny_training import TinyFeatures, all_callbacks, build_trainer, tiny_config

from otmerge_hf import OTMergeModel


class MaskedFeatures(TinyFeatures):
    """Every second and third row unpaired, so that two ranks hold different numbers of pairs."""

    def __init__(self):
        super().__init__()
        for place, row in enumerate(self.rows):
            row |= {"pair_mask": int(place % 3 == 0), "group_ids": place // 6}


def train(folder, names, batch, accumulation):
    """Log of one short training with all the terms at once, and what wrapped the model."""
    torch.manual_seed(0)
    trainer = build_trainer(
        folder,
        OTMergeModel(tiny_config()),
        [all_callbacks()[name] for name in names],
        dataset=MaskedFeatures(),
        evaluation=MaskedFeatures(),
        eval_strategy="steps",
        eval_steps=2,
        optim="sgd",
        learning_rate=1e-3,
        max_steps=4,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=16 // int(os.environ.get("WORLD_SIZE", "1")),
        gradient_accumulation_steps=accumulation,
    )
    trainer.train()
    return trainer.state.log_history, type(trainer.model_wrapped).__name__


if __name__ == "__main__":
    folder, target, batch, accumulation, *names = sys.argv[1:]
    result = train(folder, names, int(batch), int(accumulation))
    if os.environ["RANK"] == "0":
        with open(target, "w") as file:
            json.dump(result, file)
    # both ranks end together: one that is torn down while the other still talks to it ends the process
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
