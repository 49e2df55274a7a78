"""A model, data and a Trainer that are small enough to train in a second, and every callback once."""

import torch
from transformers import BertConfig, Trainer, TrainingArguments, default_data_collator

from otmerge_hf import OTMergeConfig
from otmerge_hf.losses import Teacher
from otmerge_hf.training import (
    ContrastiveLossCallback,
    GromovLossCallback,
    KLOTLossCallback,
    MMDLossCallback,
    PairedLossCallback,
    PrototypeLossCallback,
    ReconstructionLossCallback,
    SinkhornLossCallback,
    StructureLossCallback,
    VarianceLossCallback,
)


CONTEXT_DIM, QUERY_DIM = 16, 8


def tiny_config(**kwargs):
    def bert(width):
        return BertConfig(
            vocab_size=30, hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )

    options = {"shared_dim": 4, "fuser_num_heads": 2, "fuser_dropout": 0.0, "context_positions": "none"} | kwargs
    return OTMergeConfig.from_encoder_configs(bert(CONTEXT_DIM), bert(QUERY_DIM), **options)


class TinyFeatures(torch.utils.data.Dataset):
    """Random encoder tokens of both sides, with padding, and an answer a row."""

    def __init__(self, rows=32, answers=None, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.rows = []
        for row in range(rows):
            length = int(torch.randint(1, 4, (), generator=generator))
            item = {
                "context_features": torch.randn(3, CONTEXT_DIM, generator=generator),
                "context_features_mask": (torch.arange(3) < length).long(),
                "query_features": torch.randn(2, QUERY_DIM, generator=generator),
            }
            if answers:
                item["labels"] = row % answers
            self.rows.append(item)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def build_trainer(folder, model, callbacks, dataset=None, evaluation=None, collator=default_data_collator, **options):
    """The stock Trainer on the CPU, logging every step."""
    arguments = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "seed": 0,
    } | options
    return Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=dataset or TinyFeatures(),
        eval_dataset=evaluation,
        data_collator=collator,
        callbacks=callbacks,
    )


def all_callbacks():
    generator = torch.Generator().manual_seed(9)
    teacher = Teacher(
        torch.randn(3, 16, generator=generator), torch.zeros(3), torch.randn(3, 8, generator=generator), torch.zeros(3)
    )
    return {
        "paired": PairedLossCallback(0.5),
        "sinkhorn": SinkhornLossCallback(epsilon=[(0.0, 0.5), (1.0, 0.05)]),
        "variance": VarianceLossCallback(),
        "reconstruction": ReconstructionLossCallback(weight=[(0.0, 1.0), (1.0, 0.0)]),
        "contrastive": ContrastiveLossCallback(),
        "mmd": MMDLossCallback(),
        "prototype": PrototypeLossCallback(prototypes=3),
        "klot": KLOTLossCallback(teacher=teacher),
        "gromov": GromovLossCallback(max_iterations=10),
        "structure": StructureLossCallback(),
    }
