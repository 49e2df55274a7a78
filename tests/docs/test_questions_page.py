"""The documented way without a store runs as it is written, with hard and with soft labels."""

import pytest
import torch
from datasets import Dataset, Features, Image, Value
from pages import PAGES, run_blocks
from transformers import AutoProcessor

from otmerge_hf import OTMergeForQuestionAnswering


NAMES = {0: "red", 1: "blue"}


@pytest.fixture
def given(merge, processor, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = merge(id2label=NAMES, label2id={name: place for place, name in NAMES.items()})
    rows = {
        "image": [images[i % 2] for i in range(32)],
        "question": ["what color ?"] * 32,
        "answer": ["red", "blue"] * 16,
    }
    features = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    return {"model": model, "processor": processor, "dataset": Dataset.from_dict(rows, features=features)}


@pytest.fixture
def page():
    return PAGES["docs/questions.md"].replace(
        "max_steps=4", "max_steps=4, use_cpu=True, report_to=[], disable_tqdm=True"
    )


def test_the_documents_block_trains_and_its_checkpoint_answers(given, page, tmp_path):
    before = {name: value.clone() for name, value in given["model"].state_dict().items()}
    run_blocks(page, given)
    model, trainer = given["model"], given["trainer"]
    assert model.otmerge.context_standardizer.is_fitted
    assert model.otmerge.query_standardizer.is_fitted
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("fuser.") for name in moved)
    assert not any("_encoder." in name for name in moved)
    assert 0 <= trainer.evaluate()["eval_accuracy"] <= 1
    loaded = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "runs" / "raw" / "checkpoint-4")
    assert loaded.config.id2label == NAMES
    assert AutoProcessor.from_pretrained(tmp_path / "runs" / "raw" / "checkpoint-4")(text="what ?")["input_ids"]


def test_soft_labels_go_the_same_way(given, page):
    given["model"].config.problem_type = "multi_label_classification"
    soft = page.replace(
        'model.config.label2id[answer] for answer in rows["answer"]', '[0.9, 0.3] for _ in rows["answer"]'
    )
    assert soft != page
    run_blocks(soft, given)
    assert given["trainer"].evaluate()["eval_loss"] > 0
