"""PEFT: LoRA inside a frozen query encoder, beside the parts of the merge that learn anyway."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForVisualQuestionAnswering, Trainer, TrainingArguments


LEARNING = ["context_adapter", "query_adapter", "fuser", "classifier", "positions", "logit_scale"]


@pytest.fixture
def lora(merge):
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=r".*query_encoder.*\.(query|value)", modules_to_save=LEARNING, lora_dropout=0.0
    )
    return get_peft_model(merge(adapter_type="orthogonal", fuser_dropout=0.0), config)


@pytest.fixture
def rows(batch):
    columns = {name: batch[name] for name in batch} | {"labels": torch.tensor([0, 1, 2])}
    return [{name: value[i % 3] for name, value in columns.items()} for i in range(12)]


def train(model, rows, folder, **options):
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=4, per_device_train_batch_size=3, learning_rate=1e-2, use_cpu=True,
        save_strategy="no", report_to="none", disable_tqdm=True, logging_strategy="no", **options,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    return trainer


def test_lora_in_a_frozen_encoder_learns(lora, batch):
    """Run without gradient as frozen encoders are, it would stay as it began and nobody would hear of it."""
    lora.train()
    lora(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    # of the two factors one starts at zero, so that only the other has a gradient in the first step
    factors = {n: p for n, p in lora.named_parameters() if "lora_B" in n}
    assert len(factors) == 4
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in factors.values())
    base = lora.get_base_model().otmerge
    assert not any(p.requires_grad for p in base.context_encoder.parameters())
    assert not base.query_encoder.training


def test_what_learns(lora):
    learning = {n for n, p in lora.named_parameters() if p.requires_grad}
    for part in LEARNING:
        assert any(f"{part}.modules_to_save" in name for name in learning), part
    assert all("lora_" in name or "modules_to_save" in name for name in learning)


def test_trained_saved_loaded_and_merged(lora, merge, rows, batch, tmp_path):
    base = copy.deepcopy(merge(adapter_type="orthogonal", fuser_dropout=0.0))
    base.save_pretrained(tmp_path / "base")
    train(lora, rows, tmp_path)
    lora.eval()
    with torch.no_grad():
        logits = lora(**batch).logits
        assert not torch.allclose(logits, base(**batch).logits, atol=1e-3)
        lora.save_pretrained(tmp_path / "lora")

        fresh = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "base")
        again = PeftModel.from_pretrained(fresh, tmp_path / "lora").eval()
        torch.testing.assert_close(again(**batch).logits, logits, atol=1e-6, rtol=1e-6)

        merged = again.merge_and_unload()
        torch.testing.assert_close(merged(**batch).logits, logits, atol=1e-5, rtol=1e-5)
        merged.save_pretrained(tmp_path / "merged")
        plain = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(plain(**batch).logits, logits, atol=1e-5, rtol=1e-5)


def test_resumed_run_equals_a_straight_one(lora, rows, tmp_path):
    other = copy.deepcopy(lora)
    train(lora, rows, tmp_path / "a")
    arguments = {"save_steps": 2}
    torch.manual_seed(0)
    third = copy.deepcopy(other)
    options = TrainingArguments(
        output_dir=str(tmp_path / "b"), max_steps=4, per_device_train_batch_size=3, learning_rate=1e-2, use_cpu=True,
        save_strategy="steps", report_to="none", disable_tqdm=True, logging_strategy="no", **arguments,
    )  # fmt: skip
    Trainer(other, options, train_dataset=rows).train()
    Trainer(third, options, train_dataset=rows).train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))
    for name, value in lora.state_dict().items():
        torch.testing.assert_close(third.state_dict()[name], value, atol=1e-6, rtol=1e-5, msg=name)
