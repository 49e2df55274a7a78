"""Ranks of one launch share a store: equal bytes, resumed with another number of them, no hang when one fails."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shared_store
from shared_store import TEXTS


def content(folder):
    """Every file of the only store below a folder."""
    return {path.name: path.read_bytes() for path in next(folder.iterdir()).iterdir()}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """The folder of stores, and what rank 0 said; rank 1 was killed at the end."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.raises(ConnectionError):  # one process had begun
        shared_store.run(folder / "resumed", stop=shared_store.fail, at=[TEXTS[7]])
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(shared_store.__file__)), str(folder)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, -signal.SIGKILL], "\n".join(errors)
    return folder, json.loads((folder / "rank-0.json").read_text()), errors


@pytest.mark.slow  # two processes import everything anew
@pytest.mark.distributed
def test_two_ranks_make_the_store_of_one(two_ranks, tmp_path):
    folder, said, errors = two_ranks
    shared_store.run(tmp_path / "one")
    expected = content(tmp_path / "one")
    assert len(expected) == 5 + 1
    assert said["whole"] == [*TEXTS[:5], *TEXTS[10:15], *TEXTS[20:]]  # shards 0, 2, 4
    assert said["reused"]
    assert content(folder / "whole") == expected

    # one shard was there: 1 and 3 are rank 0's, 2 and 4 rank 1's
    assert said["resumed"] == [*TEXTS[5:10], *TEXTS[15:20]]
    assert content(folder / "resumed") == expected

    assert said["failed"] == "RuntimeError: rank 1 failed: ConnectionError: power cut"
    assert "rank 1 of 2 failed" in errors[1]
    assert said["after"] == TEXTS[15:20]  # what rank 0 had to do was kept
    assert content(folder / "failed") == expected

    # killed in its second shard; one process does what is left
    assert said["killed"].startswith("RuntimeError: rank 0 lost another rank, which ended before")
    store, seen = shared_store.run(folder / "killed")
    assert seen == TEXTS[15:20]
    assert not store.reused
    assert content(folder / "killed") == expected


@pytest.mark.slow  # two processes import everything anew
@pytest.mark.distributed
def test_ranks_that_disagree_are_refused(two_ranks):
    folder, said, _ = two_ranks
    assert said["inputs"] == "ValueError: rank 1 has another inputs than rank 0"
    assert said["folder"].startswith(f"ValueError: rank 1 has `cache_dir` {folder / 'own-1'} and rank 0 {folder}")
    assert said["width"] == "ValueError: encode returned 5 features per token for the rows of rank 1, but 6 before"
    assert not list(folder.glob("width/*/index.json"))
    assert said["alone"] == TEXTS[:3]
