"""Measuring of the suite `scaling`: one process against two ranks, and lookups in a store of sparse files."""

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from otmerge_hf import OTMergeModel, OTMergeProcessor
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features import FeatureStore, encode
from otmerge_hf.features.shards import Shard, write_index

from ..runner.machine import memory_mib
from ..runner.measure import silence_transformers
from .feature_extraction_timing import SIZE, write_inputs


SHARDS = 8  # of each store: as many for either rank
TOKENS, DIM, SHARD_ROWS, BATCH, BATCHES = 20, 384, 512, 64, 200


def compare_ranks(
    inputs: str, source: str, count: int, rounds: int, folder: Path, report_progress: Callable[[float], None]
) -> list[dict[str, dict[str, float]]]:
    """Wall and CPU seconds of one process and of two ranks, turn by turn; every process lives through all turns.

    `cpu` is of all processes, `slowest` of the one that took most: the clock's seconds if nothing else ran.

    Raises:
        RuntimeError: If the stores are not the same bytes.
    """
    listed = tuple(write_inputs(inputs, source, count, folder))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    ranks = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    pools = [
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_set_environment, initargs=(given,))
        for given in ({}, *ranks)
    ]
    arms = {"one": pools[:1], "two": pools[1:]}
    try:
        turns = []
        for turn in range(rounds + 1):
            found, digests = {}, set()
            for arm, members in arms.items():
                with tempfile.TemporaryDirectory() as cache_dir:
                    start = time.perf_counter()
                    jobs = [pool.submit(encode_once, inputs, listed, cache_dir) for pool in members]
                    made = [job.result() for job in jobs]
                    wall, cpu = time.perf_counter() - start, [seconds for seconds, _ in made]
                    found[arm] = {"wall": wall, "cpu": sum(cpu), "slowest": max(cpu)}
                    digests |= {digest for _, digest in made}
            if len(digests) != 1:
                raise RuntimeError(f"the stores of one process and of two ranks differ: {sorted(digests)}")
            turns += [found] if turn else []  # the first loads the encoders
            report_progress((turn + 1) / (rounds + 1))
        return turns
    finally:
        for pool in pools:
            pool.shutdown()


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def encode_once(inputs: str, listed: tuple[str, ...], cache_dir: str) -> tuple[float, str]:
    """CPU seconds of this process, and the digest of the store."""
    model, processor = _merge()
    given: list[Any] = list(listed) if inputs == "texts" else [Path(file) for file in listed]
    options: dict[str, Any] = {"cache_dir": cache_dir, "shard_size": -(-len(given) // SHARDS), "progress": False}
    start = time.process_time()
    store = encode(model, processor, "query" if inputs == "texts" else "context", given, **options)
    return time.process_time() - start, store.shards_digest


@cache
def _merge() -> tuple[OTMergeModel, OTMergeProcessor]:
    silence_transformers()
    names = str(convert_efficientnet_lite(image_size=SIZE)), str(minilm_l6_path())
    return (
        OTMergeModel.from_encoders_pretrained(*names, shared_dim=64).eval(),
        OTMergeProcessor.from_encoders_pretrained(*names),
    )


def time_lookup(rows: int, cache_dir: Path) -> dict[str, float]:
    """CPU seconds of opening a store of sparse files and of one batch; its bytes, those on disk, and memory, MiB."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as scratch:
        folder = Path(scratch)
        shards = [write_sparse(folder, first, min(SHARD_ROWS, rows - first)) for first in range(0, rows, SHARD_ROWS)]
        write_index(folder, {}, DIM, torch.float16, shards)
        disk = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
        memory, start = memory_mib(), time.process_time()
        store = FeatureStore(folder, verify="size")
        opened, memory = time.process_time() - start, memory_mib() - memory
        generator = np.random.default_rng(0)
        drawn = [generator.integers(0, rows, BATCH).tolist() for _ in range(BATCHES)]
        start = time.process_time()
        for ids in drawn:
            store.batch(ids)
        batch = (time.process_time() - start) / BATCHES
        size = sum(shard.size for shard in shards)
        return {"files": len(shards), "bytes": size, "disk": disk, "open": opened, "memory": memory, "batch": batch}


def write_sparse(folder: Path, first: int, count: int) -> Shard:
    """One shard in the layout of [`write_shard`], whose tokens are a hole: zeros that take no room."""
    lengths = np.full(count, TOKENS, np.int64).tobytes()
    size = count * TOKENS * DIM * 2
    header = json.dumps(
        {
            "lengths": {"dtype": "I64", "shape": [count], "data_offsets": [0, len(lengths)]},
            "tokens": {
                "dtype": "F16",
                "shape": [count * TOKENS, DIM],
                "data_offsets": [len(lengths), len(lengths) + size],
            },
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    start = len(header).to_bytes(8, "little") + header + lengths
    name = f"rows-{first:08d}-{first + count:08d}-{'0' * 16}.safetensors"
    with (folder / name).open("wb") as file:
        file.write(start)
        file.truncate(len(start) + size)
    return Shard(name, first, first + count, len(start) + size, "0" * 64)
