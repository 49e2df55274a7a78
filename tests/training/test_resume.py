"""A training that stopped and went on is the training that never stopped."""

import json

import pytest
import torch

from otmerge_hf.training import (
    ContrastiveLossCallback,
    PairedLossCallback,
    PrototypeLossCallback,
    SinkhornLossCallback,
)
from otmerge_hf.training.checkpoint import pack_tensors, unpack_tensors


def callbacks():
    return [
        SinkhornLossCallback(weight=[(0.0, 1.0), (1.0, 0.2)], epsilon=[(0.0, 0.5), (1.0, 0.05)]),
        PrototypeLossCallback(prototypes=3, momentum=0.5),
        ContrastiveLossCallback(0.5),
    ]


@pytest.mark.parametrize("restore", [False, True])
def test_resume_equals_a_straight_run(make_model, make_trainer, tmp_path, restore):
    options = {
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "restore_callback_states_from_checkpoint": restore,
    }
    straight = make_trainer(make_model(), callbacks(), **options)
    straight.train()
    resumed = make_trainer(make_model(seed=1), callbacks(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for (name, first), second in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(second, first, rtol=0, atol=1e-6, msg=name)
    last, other = (trainer.state.log_history[-2] for trainer in (straight, resumed))
    for key in ("loss", "sinkhorn", "prototype", "contrastive", "sinkhorn_weight", "sinkhorn_epsilon"):
        assert other[key] == pytest.approx(last[key], rel=1e-5)


def test_checkpoints_hold_the_prototypes_as_json(make_model, make_trainer, tmp_path):
    callback = PrototypeLossCallback(prototypes=3)
    make_trainer(make_model(), [callback], max_steps=2, save_strategy="steps", save_steps=2).train()
    state = json.loads((tmp_path / "run" / "checkpoint-2" / "trainer_state.json").read_text())
    stored = unpack_tensors(state["stateful_callbacks"]["PrototypeLossCallback"]["attributes"]["buffers"])
    for side in ("context", "query"):
        assert torch.equal(stored[side], callback.term.buffers()[side])
        assert stored[side].shape == (2, 3, 4)


def test_a_new_training_starts_with_new_prototypes(make_model, make_trainer):
    callback = PrototypeLossCallback(prototypes=3)
    first = make_trainer(make_model(), [callback])
    first.train()
    second = make_trainer(make_model(), [callback])
    second.train()
    values = [[e["prototype"] for e in t.state.log_history if "loss" in e] for t in (first, second)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_arguments_are_restored_when_asked(make_model, make_trainer, tmp_path, logs_of):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    make_trainer(make_model(), [PairedLossCallback(0.25)], **options).train()
    resumed = make_trainer(
        make_model(), [PairedLossCallback(9.0)], restore_callback_states_from_checkpoint=True, **options
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert logs_of(resumed, "paired_weight") == [0.25] * 4
    assert resumed.model.loss_terms == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_tensors_survive_json_bit_by_bit(dtype):
    tensors = {"a": (torch.randn(3, 5) * 1e3).to(dtype), "scalar": torch.tensor(0.1).to(dtype)}
    back = unpack_tensors(json.loads(json.dumps(pack_tensors(tensors))))
    assert all(torch.equal(back[name], tensors[name]) and back[name].dtype == dtype for name in tensors)
