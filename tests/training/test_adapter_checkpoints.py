"""Trainer's checkpoints without the frozen encoders: small, resumed to the bit, and never by surprise."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from otmerge_hf.model import checkpoint
from otmerge_hf.training import AdapterCheckpoints


@pytest.fixture
def rows(batch):
    generator = torch.Generator().manual_seed(7)
    made = torch.randn(24, 3, 32, 32, generator=generator)
    texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return [
        {"pixel_values": made[i], "labels": i % 3} | {name: text[i % 3] for name, text in texts.items()}
        for i in range(24)
    ]


def make_trainer(folder, model, rows, callbacks=(), steps=4, **options):
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 5e-3, "logging_strategy": "no", "seed": 3}
    defaults |= {"save_strategy": "steps", "save_steps": 2, "use_cpu": True, "disable_tqdm": True, "max_steps": steps}
    arguments = TrainingArguments(output_dir=str(folder), report_to="none", **(defaults | options))
    return Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:4], callbacks=list(callbacks))


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def encoder_keys(folder):
    return [name for name in load_file(folder / "model.safetensors") if "_encoder." in name]


class Break(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("context", ["vit", "efficientnet"])  # one with BatchNorm, whose buffers are left out too
def test_resumed_run_equals_a_straight_one_to_the_bit(merge, rows, tmp_path, context, caplog):
    if context == "efficientnet":
        rows = [row | {"pixel_values": row["pixel_values"].repeat(1, 2, 2)} for row in rows]
    straight = merge(context)
    make_trainer(tmp_path / "straight", straight, rows).train()
    broken = merge(context)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "broken", broken, rows, [AdapterCheckpoints(), Break()]).train()
    assert encoder_keys(tmp_path / "broken" / "checkpoint-2") == []
    resumed = merge(context, seed=9)  # other weights, so that a tensor that is not loaded shows
    trainer = make_trainer(tmp_path / "broken", resumed, rows, [AdapterCheckpoints()])
    with caplog.at_level(logging.WARNING):
        trainer.train(resume_from_checkpoint=True)
    assert same(straight, resumed)
    assert not [record for record in caplog.records if "missing" in record.getMessage()]
    assert encoder_keys(tmp_path / "broken" / "checkpoint-4") == []


def test_checkpoint_has_the_size_of_what_learns(merge, rows, tmp_path):
    model = merge()
    make_trainer(tmp_path, model, rows, [AdapterCheckpoints()], steps=2).train()
    held = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    expected = {name: value for name, value in model.state_dict().items() if "_encoder." not in name}
    assert held.keys() == expected.keys()
    size = sum(value.numel() * value.element_size() for value in expected.values())
    assert size < (tmp_path / "checkpoint-2" / "model.safetensors").stat().st_size < size + 10_000


def test_other_saves_are_whole_during_the_training_and_after_it(merge, rows, tmp_path):
    class Save(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            model.save_pretrained(tmp_path / "meanwhile")

    model = merge()
    trainer = make_trainer(tmp_path, model, rows, [AdapterCheckpoints(), Save()], steps=2)
    trainer.train()
    trainer.save_model(str(tmp_path / "mine"))
    for name in ("meanwhile", "mine"):
        assert encoder_keys(tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())["has_encoder_weights"] is True
    assert same(type(model).from_pretrained(tmp_path / "mine"), model)
    make_trainer(tmp_path / "plain", model, rows, steps=2).train()  # another Trainer, without the callback
    assert encoder_keys(tmp_path / "plain" / "checkpoint-2")


def test_best_model_is_loaded(merge, rows, tmp_path):
    class Best(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            metrics["eval_score"] = -float(state.global_step)  # the first evaluation is the best

    model = merge()
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "load_best_model_at_end": True}
    options |= {"metric_for_best_model": "eval_score", "greater_is_better": True}
    trainer = make_trainer(tmp_path, model, rows, [AdapterCheckpoints(), Best()], **options)
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    best, last = (load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (1, 4))
    held = model.state_dict()
    assert best.keys() == {name for name in held if "_encoder." not in name}
    assert all(torch.equal(held[name], value) for name, value in best.items())
    assert not all(torch.equal(last[name], value) for name, value in best.items())


def test_checkpoint_of_other_encoders_is_refused(merge, encoder, rows, tmp_path):
    make_trainer(tmp_path, merge(), rows, [AdapterCheckpoints()], steps=2).train()
    other = merge()
    with torch.no_grad():
        other.otmerge.query_encoder.embeddings.LayerNorm.bias[0] += 1
    trainer = make_trainer(tmp_path, other, rows, [AdapterCheckpoints()])
    with pytest.raises(ValueError, match=r"made with another query encoder, and holds none: digest .* this model's"):
        trainer.train(resume_from_checkpoint=True)


def test_encoders_that_learn_are_saved_and_it_is_said(merge, rows, tmp_path, caplog):
    checkpoint.logger.warning_once.cache_clear()
    options = {"freeze_encoders": False, "fuser_dropout": 0.0}
    straight = merge(**options)
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path, straight, rows, [AdapterCheckpoints()]).train()
    assert encoder_keys(tmp_path / "checkpoint-2")
    assert [record for record in caplog.records if "encoder learns: checkpoints hold" in record.getMessage()]
    resumed = merge(seed=9, **options)
    trainer = make_trainer(tmp_path, resumed, rows, [AdapterCheckpoints()])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict(), atol=1e-6, rtol=0)


def test_going_on_from_a_whole_checkpoint(merge, rows, tmp_path):
    """The callback may come later: a checkpoint of before it is resumed, the next one is without encoders."""
    straight = merge()
    make_trainer(tmp_path, straight, rows).train()
    resumed = merge(seed=9)
    trainer = make_trainer(tmp_path, resumed, rows, [AdapterCheckpoints()])
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same(straight, resumed)
    assert encoder_keys(tmp_path / "checkpoint-4") == []


def test_after_a_training_that_raised_other_trainings_checkpoints_are_whole(merge, rows, tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            raise KeyboardInterrupt

    model = merge()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(tmp_path / "first", model, rows, [AdapterCheckpoints(), Stop()]).train()
    make_trainer(tmp_path / "second", model, rows, steps=2).train()
    assert encoder_keys(tmp_path / "second" / "checkpoint-2")
