"""Two processes under DistributedDataParallel have to teach what one process with all rows does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import two_ranks
import two_ranks_stages


NAMES = ["sinkhorn", "variance", "contrastive", "mmd", "prototype", "klot", "structure", "gromov"]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def on_two_ranks(script, folder, *arguments, meanwhile):
    """What rank 0 of a script wrote, and what `meanwhile()` gave in this process."""
    path, target = Path(__file__).with_name(script), folder / "result.json"
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(path), str(folder / "run"), str(target), *arguments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        expected = meanwhile()
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error[-2000:] for error in errors)
    return json.loads(target.read_text()), expected


@pytest.mark.distributed
def test_two_ranks_equal_one(tmp_path):
    """2 ranks x 2 micro-batches x 2 rows against 1 x 8: all rows of the window and of both ranks."""
    (history, wrapper), (expected, _) = on_two_ranks(
        "two_ranks.py", tmp_path, "2", "2", *NAMES, meanwhile=lambda: two_ranks.train(tmp_path / "one", NAMES, 8, 1)
    )
    assert wrapper == "DistributedDataParallel"
    keys = ["loss", "grad_norm", "eval_loss", *NAMES, *(f"eval_{name}" for name in NAMES)]
    for key in keys:
        one, two = ([entry[key] for entry in log if key in entry] for log in (expected, history))
        assert len(one) == (2 if key.startswith("eval_") else 4), key
        assert two == pytest.approx(one, rel=1e-3, abs=1e-6), key


@pytest.mark.distributed
def test_gradient_checkpointing_finds_no_unused_temperature(tmp_path):
    """Under checkpointing a parameter that learns and gets no gradient stops DistributedDataParallel."""
    ranks, expected = on_two_ranks(
        "two_ranks_stages.py", tmp_path, meanwhile=lambda: two_ranks_stages.train(str(tmp_path / "one"), 1)
    )
    assert [part["wrapper"] for part in ranks] == ["DistributedDataParallel"] * 6
    for one, two in zip(expected, ranks, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["temperature"] == pytest.approx(one["temperature"], rel=1e-5)
    moved = [len(set(part["temperature"])) > 1 for part in ranks]
    assert moved == [False, True, False, False, False, False]
