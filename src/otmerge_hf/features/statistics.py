"""Blocks of tokens -> mean and deviation of every feature, and the file that remembers them."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .shards import write_atomically


logger = logging.getLogger(__name__)

Statistics = tuple[torch.Tensor, torch.Tensor]


def feature_statistics(blocks: Iterable[torch.Tensor]) -> Statistics:
    """Mean and population deviation over the rows of all blocks, in one pass and float64.

    Block means and squared deviations are merged pairwise, so nothing cancels when the mean is large.

    Args:
        blocks: Tensors (T_k, D).

    Returns:
        Mean (D,) and standard deviation (D,), float32.

    Example:
        >>> feature_statistics([torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0]])])
        (tensor([3.]), tensor([1.6330]))

    Source: Chan, Golub and LeVeque 1983, eq. 1.5; checked against `torch.std`.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        values = block.double()
        own_mean = values.mean(0)
        delta = own_mean - mean
        total = count + len(values)
        spread = (values - own_mean).square().sum(0)
        squares = squares + spread + delta.square() * (count * len(values) / total)
        mean = mean + delta * (len(values) / total)
        count = total
    return mean.float(), (squares / count).sqrt().float()


def write_statistics(path: Path, result: Statistics, shards: str) -> None:
    """Remember statistics together with the digest of the shards that they are of."""
    tensors = dict(zip(("mean", "std"), result, strict=True))
    write_atomically(path, save(tensors, metadata=_stamp(tensors, shards)))


def read_statistics(path: Path, shards: str) -> Statistics | None:
    """Remembered statistics of exactly these shards; None, with a warning if a file is there, otherwise."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in ("mean", "std")}
            written = file.metadata()
    except SafetensorError as error:
        logger.warning("%s is damaged (%s); computed again", path, error)
        return None
    if written != _stamp(tensors, shards):
        logger.warning("%s is damaged or belongs to other features; computed again", path)
        return None
    return tensors["mean"], tensors["std"]


def _stamp(tensors: dict[str, torch.Tensor], shards: str) -> dict[str, str]:
    values = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    return {"otmerge_statistics": f"of {shards} sha256 {hashlib.sha256(values).hexdigest()}"}
