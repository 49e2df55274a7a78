"""One of two processes that compute stores together; started by test_ranks.py."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from otmerge_hf.features import compute_features


TEXTS = [f"text {i} " + "word " * (i % 5) for i in range(23)]  # five shards: three for rank 0, two for rank 1


def tokens_of(text):
    generator = torch.Generator().manual_seed(sum(map(ord, text)))
    return torch.randn(len(text.split()), 6, generator=generator)


def run(cache_dir, inputs=TEXTS, stop=None, at=(), wait=0.0, dim=6, **options):
    """A store of `inputs`, and what was encoded here; `stop()` is called before a text of `at` is encoded."""
    seen = []

    def encode(texts):
        time.sleep(wait)
        if any(text in at for text in texts):
            stop()
        seen.extend(texts)
        return torch.nn.utils.rnn.pad_sequence([tokens_of(text)[:, :dim] for text in texts], True), masks(texts)

    def masks(texts):
        return torch.nn.utils.rnn.pad_sequence([torch.ones(len(text.split())) for text in texts], True)

    options = {"key": {"encoder": "a"}, "batch_size": 2, "shard_size": 5, "progress": False} | options
    return compute_features(encode, inputs, cache_dir=cache_dir, **options), seen


def fail():
    raise ConnectionError("power cut")


def message(call):
    try:
        call()
    except (ConnectionError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    said = {"whole": run(folder / "whole")[1]}
    # rank 1 comes late, when rank 0 may be done
    said["resumed"] = run(folder / "resumed", wait=0.05 * rank)[1]
    said["reused"] = run(folder / "whole")[0].reused
    said["failed"] = message(lambda: run(folder / "failed", stop=fail, at=[TEXTS[16]]))
    said["after"] = run(folder / "failed")[1]
    said["inputs"] = message(lambda: run(folder / "others", TEXTS[rank:]))
    said["folder"] = message(lambda: run(folder / f"own-{rank}"))
    said["width"] = message(lambda: run(folder / "width", dim=6 - rank))
    said["alone"] = run(folder / f"alone-{rank}", TEXTS[: 3 + rank], share=False)[1]
    said["killed"] = message(
        lambda: run(folder / "killed", stop=lambda: os.kill(os.getpid(), signal.SIGKILL), at=[TEXTS[16]])
    )
    (folder / f"rank-{rank}.json").write_text(json.dumps(said))
    os._exit(0)  # the other rank is dead: nothing can be torn down together
