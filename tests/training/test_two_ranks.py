"""Two processes under DistributedDataParallel have to teach what one process with all rows does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from two_ranks import train


NAMES = ["sinkhorn", "variance", "contrastive", "mmd", "prototype", "klot", "structure", "gromov"]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.mark.distributed
def test_two_ranks_equal_one(tmp_path):
    """2 ranks x 2 micro-batches x 2 rows against 1 x 8: the union of both window and ranks."""
    script, target = Path(__file__).with_name("two_ranks.py"), tmp_path / "history.json"
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "run"), str(target), "2", "2", *NAMES],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        expected, _ = train(tmp_path / "single", NAMES, 8, 1)
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error[-2000:] for error in errors)
    history, wrapper = json.loads(target.read_text())
    assert wrapper == "DistributedDataParallel"
    keys = ["loss", "grad_norm", "eval_loss", *NAMES, *(f"eval_{name}" for name in NAMES)]
    for key in keys:
        one, two = ([entry[key] for entry in log if key in entry] for log in (expected, history))
        assert len(one) == (2 if key.startswith("eval_") else 4), key
        assert two == pytest.approx(one, rel=1e-3, abs=1e-6), key
