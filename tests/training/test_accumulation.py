"""1 x 8 rows and 4 x 2 rows have to teach the same."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_training import all_callbacks

from otmerge_hf.training import SinkhornLossCallback


NAMES = sorted(all_callbacks())


def run(name, make_model, make_trainer, **options):
    callback = all_callbacks()[name]
    trainer = make_trainer(make_model(reconstruction=True), [callback], optim="sgd", **options)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", NAMES)
def test_windows_equal_batches(name, make_model, make_trainer):
    whole = run(name, make_model, make_trainer)
    parts = run(name, make_model, make_trainer, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert len(whole) == len(parts) == 3
    for one, four in zip(whole, parts, strict=True):
        for key in ("loss", "grad_norm", name):
            assert four[key] == pytest.approx(one[key], rel=2e-4, abs=1e-6), (one["step"], key)
        assert one["grad_norm"] > 0 or name == "gromov"


def test_a_short_last_window_counts_by_its_own_length(make_model, make_trainer, features):
    """20 rows: windows of 8, 8 and 4."""
    options = {"dataset": features(20), "max_steps": -1, "num_train_epochs": 1}
    whole = run("sinkhorn", make_model, make_trainer, **options)
    parts = run(
        "sinkhorn", make_model, make_trainer, per_device_train_batch_size=2, gradient_accumulation_steps=4, **options
    )
    assert [e["loss"] for e in parts] == pytest.approx([e["loss"] for e in whole], rel=2e-4)
    assert [e["grad_norm"] for e in parts] == pytest.approx([e["grad_norm"] for e in whole], rel=2e-4)


def test_a_set_term_differs_without_the_window(make_model, make_trainer, monkeypatch):
    """That the test above can fail: micro-batches by themselves teach something else."""
    from otmerge_hf.training.accumulation import AccumulationWindow

    whole = run("sinkhorn", make_model, make_trainer)
    monkeypatch.setattr(AccumulationWindow, "__call__", lambda self, outputs, tokens=False: (outputs, 1))
    parts = run("sinkhorn", make_model, make_trainer, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert abs(parts[0]["grad_norm"] - whole[0]["grad_norm"]) > 1e-2 * whole[0]["grad_norm"]


def words(rows=16):
    """Pairs of texts for encoders that learn: they have to be run, and batches of them padded."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 5, (rows, 2), generator=generator)
    masks = [(torch.arange(4) < lengths[:, side, None]).long() for side in (0, 1)]
    ids = [torch.randint(5, 30, (rows, 4), generator=generator) * mask for mask in masks]
    names = ("context_input_ids", "context_attention_mask", "input_ids", "attention_mask")
    columns = dict(zip(names, (ids[0], masks[0], ids[1], masks[1]), strict=True))
    return [{name: column[row] for name, column in columns.items()} for row in range(rows)]


@pytest.mark.parametrize("by_lora", [True, False])
def test_windows_equal_batches_where_encoders_learn(make_model, make_trainer, by_lora):
    """`freeze_encoders` stays True under LoRA."""

    def train(**options):
        model = make_model(freeze_encoders=by_lora)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if by_lora:
            torch.manual_seed(0)
            learning = ["context_adapter", "query_adapter"]
            lora = LoraConfig(r=2, target_modules=r".*query_encoder.*\.(query|value)", modules_to_save=learning)
            model = get_peft_model(model, lora)
        before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
        trainer = make_trainer(model, [SinkhornLossCallback()], dataset=words(), optim="sgd", **options)
        trainer.train()
        after = dict(model.named_parameters())
        steps = {name: after[name].detach() - value for name, value in before.items()}
        return steps, [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]

    whole, norms = train()
    parts, norms_of_parts = train(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert norms_of_parts == pytest.approx(norms, rel=2e-4)
    inside = [name for name in whole if "query_encoder" in name and whole[name].abs().max() > 1e-7]
    assert inside
    for name in inside:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-8, msg=name)
