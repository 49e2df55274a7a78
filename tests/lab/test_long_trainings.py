"""A joint training that was interrupted: it goes on, ends where it would have, and counts all its seconds."""

import pytest
import torch

from benchmarks.methods import get_method


@pytest.mark.parametrize("name", ["joint", "lora"])
def test_goes_on_from_its_last_checkpoint(name, task, recipe, tmp_path):
    whole = get_method(name)(task, recipe).model.state_dict()

    def interrupt(share):
        if share == 0.75:
            raise KeyboardInterrupt

    task.checkpoints, task.report_progress = tmp_path / "checkpoints", interrupt
    with pytest.raises(KeyboardInterrupt):
        get_method(name)(task, recipe)
    assert sorted(path.name for path in task.checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    reported = []
    task.report_progress = reported.append
    fitted = get_method(name)(task, recipe)
    assert reported == [0.75, 1.0]
    after = fitted.model.state_dict()
    assert whole.keys() == after.keys()
    for key, value in whole.items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=1e-6)
    phase = fitted.phases[0]
    assert 0 < phase.earlier["cpu"] < phase.cpu_seconds


def test_a_checkpoint_without_its_seconds_is_not_used(task, recipe, tmp_path):
    task.checkpoints = tmp_path
    (tmp_path / "checkpoint-3").mkdir()  # as a process leaves it that was killed while writing
    reported = []
    task.report_progress = reported.append
    get_method("joint")(task, recipe)
    assert reported[0] == 0.25
