"""A task of 40 coloured squares and two tiny random encoders, whose answers can be read off the image's mean.

And results as cells write them, made by hand: accuracies and seconds that a test can sum in the head.
"""

import pytest
import torch
from PIL import Image

from benchmarks.runner.recipe import Recipe
from benchmarks.suites.easy_vqa import make_cell
from benchmarks.tasks.task import Rows, Task
from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.features import encode


COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
QUESTIONS = ["what color is the shape ?", "is there a red shape ?"]
ANSWERS = ["red", "green", "blue", "no", "yes"]


@pytest.fixture
def recipe():
    return Recipe(
        context_tokens="last_hidden_state", shared_dim=16, min_steps=4, align_min_steps=2, max_steps=4, batch_size=8
    )


@pytest.fixture
def task(encoder, processor, tmp_path):
    generator = torch.Generator().manual_seed(0)
    names = list(COLORS)
    truth = torch.randint(0, 3, (40,), generator=generator).tolist()
    images = []
    for place, color in enumerate(truth):
        r, g, b = COLORS[names[color]]
        images.append(Image.new("RGB", (32, 32), (min(r + place, 255), g, b)))
    texts = [*QUESTIONS, *(f"the shape is {name}" for name in names)]
    context, query = encoder("vit"), encoder("bert")
    probe = OTMergeForQuestionAnswering.from_encoders_pretrained(context, query, shared_dim=16)
    stores = [
        encode(probe, processor, side, inputs, cache_dir=tmp_path / "features", progress=False)
        for side, inputs in (("context", images), ("query", texts))
    ]

    def questions(rows):
        labels = [label for i in rows for label in (truth[i], 4 if truth[i] == 0 else 3)]
        return Rows([i for i in rows for _ in QUESTIONS], [0, 1] * len(rows), labels)

    return Task(
        context_encoder=context,
        query_encoder=query,
        processor=processor,
        answers=ANSWERS,
        contexts=images,
        queries=texts,
        context_store=stores[0],
        query_store=stores[1],
        train=questions(range(12)),
        test=questions(range(32, 40)),
        pairs=Rows(range(12, 28), [2 + truth[i] for i in range(12, 28)]),
        unpaired_contexts=list(range(28, 32)),
        unpaired_queries=[2, 3, 4],
        statistics={"context": stores[0].statistics(range(32)), "query": stores[1].statistics()},
        scratch=tmp_path / "scratch",
        unlabelled=Rows([i for i in range(12, 32) for _ in QUESTIONS], [0, 1] * 20),
        candidates={0: {0: 2, 1: 3, 2: 4}, 1: {4: 2, 3: 3}},
    )


@pytest.fixture
def result():
    def make(method, seed=0, accuracy=0.5, fraction=1.0, cpu=10.0, **choices):
        cell = make_cell(method, Recipe(seed=seed, label_fraction=fraction, **choices))
        merged = method not in ("joint", "most_frequent")
        return {
            "key": cell.key,
            "settings": cell.settings,
            "machine": {"threads": 1},
            "accuracy": accuracy,
            "test_questions": 1000,
            "data": {"labels": 386, "pairs": 3000 if method == "merged" else 0, "unpaired_contexts": 0, "guessed": 0},
            "compute": {
                "cpu_seconds": cpu,
                "feature_cpu_seconds": 5.0 if merged else 0.0,
                "flops": 1e12,
                "flops_uncached": 2e12,
                "trainable": 12345,
                "peak_memory_mib": 600.0 if merged else 3000.0,
                "start_memory_mib": 500.0,
                "feature_peak_memory_mib": 700.0 if merged else None,
                "feature_start_memory_mib": 450.0 if merged else None,
            },
            "phases": [],
        }

    return make
