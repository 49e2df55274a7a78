"""A growth that was killed goes on, and gives the parameters of one that was not."""

import pytest
import torch
from test_growth import PATH, planted
from transformers import TrainerCallback, TrainingArguments, default_data_collator

from otmerge_hf.training import grow_answers
from otmerge_hf.training.kept import Kept, last_complete


class Killed(Exception):
    pass


class Kill(TrainerCallback):
    """Ends the process's work at a step of the first training (the fuser's) or of the second (refit)."""

    def __init__(self, step=10**9, training=0):
        self.step, self.training, self.begun, self.steps = step, training, -1, 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.begun += 1

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1
        if self.begun == self.training and state.global_step == self.step:
            raise Killed


@pytest.fixture
def grow(make_model, tmp_path):
    def make(folder, callback):
        model = make_model(answers=2, linear_path=PATH, fuser_dropout=0.1)
        args = TrainingArguments(
            str(tmp_path / "unused"), use_cpu=True, report_to="none", disable_tqdm=True, logging_strategy="no",
            max_steps=200, learning_rate=3e-3, seed=0, per_device_train_batch_size=32, save_strategy="no",
        )  # fmt: skip
        rows, validation = planted("both", 320, 0), planted("both", 120, 1)
        options = {"eval_questions": validation, "callbacks": [callback], "keep": tmp_path / folder}
        growth = grow_answers(model, rows, default_data_collator, args, **options)
        return model.state_dict(), growth

    return make


def same(first, second):
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_at_any_step_it_ends_as_if_it_had_not_been(grow, tmp_path):
    undisturbed = Kill()
    expected, growth = grow("whole", undisturbed)
    assert growth.shares.fuser > 0
    again = Kill()
    same(expected, grow("whole", again)[0])
    assert again.steps == 0  # nothing is done twice
    for kill in (Kill(7), Kill(93), Kill(growth.fuser_steps - 1, training=1)):
        folder = f"killed-{kill.step}-{kill.training}"
        with pytest.raises(Killed):
            grow(folder, kill)
        if kill.step == 93:  # the last checkpoint is left half written
            checkpoint = last_complete(tmp_path / folder / "fuser")
            (checkpoint / "complete").unlink()
            (checkpoint / "model.safetensors").write_bytes(b"half")
        rest = Kill()
        found, again = grow(folder, rest)
        same(expected, found)
        assert str(again) == str(growth)
        assert rest.steps < undisturbed.steps or kill.step == 7


def test_what_is_kept_is_whole_or_not_there(tmp_path):
    kept = Kept(tmp_path)
    assert kept.read("fit") is None
    kept.write("fit", {"a": torch.arange(6).view(2, 3).T}, {"n": 1})
    tensors, notes = kept.read("fit")
    assert torch.equal(tensors["a"], torch.arange(6).view(2, 3).T)
    assert notes == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["fit.safetensors"]
    Kept(None).write("fit", {}, {})
    assert Kept(None).read("fit") is None
