"""1 x 8 rows and 4 x 2 rows have to teach the same."""

import pytest
from tiny_training import all_callbacks


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
