"""Answers that grow: linear first, then the fuser, as far as validation gains by it."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments

from ..model.modeling_otmerge import OTMergeForQuestionAnswering
from .attachment import find_host
from .linear_fit import LinearFit, fit_linear_path
from .two_stages import train_answers


@torch.no_grad()
def measure_parts(model, rows, collator, batch_size: int = 512) -> tuple[dict[str, Tensor], Tensor]:
    was = model.training
    model.eval()
    kept, labels = {}, []
    for batch in DataLoader(rows, batch_size=batch_size, collate_fn=collator):
        labels.append(batch.pop("labels"))
        batch = {k: v.to(model.device) for k, v in batch.items()}
        sides = {s: model.otmerge.embed_side(s, *i) for s, i in zip(("context", "query"), model.otmerge.read_inputs(batch))}
        for name, part in model.linear_path.measure(sides["query"], sides["context"]).items():
            kept.setdefault(name, []).append(part.float().cpu())
    model.train(was)
    return {n: torch.cat(p) for n, p in kept.items()}, torch.cat(labels)


@torch.no_grad()
def load_linear(model, fit: LinearFit) -> None:
    path = model.linear_path
    path.bias.copy_(fit.bias)
    for name in path.parts:
        if name == "answers":
            path.answer_scale.copy_(fit.weights.get(name, torch.zeros(1)))
        else:
            w = path.maps[name].weight
            w.copy_(fit.weights.get(name, torch.zeros_like(w)))


class KeepBest(TrainerCallback):
    def __init__(self, model, loss, patience):
        self.model, self.best, self.patience, self.state, self.step, self.bad = model, loss, patience, None, 0, 0
        self.trace = []

    def on_evaluate(self, args, state, control, metrics=None, **kw):
        loss = metrics["eval_loss"]
        self.trace.append(round(loss, 4))
        if loss < self.best:
            self.best, self.step, self.bad = loss, state.global_step, 0
            self.state = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
        else:
            self.bad += 1
            control.should_training_stop |= self.bad >= self.patience

    @torch.no_grad()
    def restore(self, start):
        now = dict(self.model.named_parameters())
        for n, p in (self.state or start).items():
            now[n].copy_(p)
