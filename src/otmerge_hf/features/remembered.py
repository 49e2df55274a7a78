"""Numbers that were computed from a store's shards -> a checked file beside them, so that they are computed once."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .keys import tensor_bytes
from .shards import write_atomically


logger = logging.getLogger(__name__)


def remember(path: Path, shards: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read what was computed from exactly these shards; compute and write it where there is nothing to read.

    A file (`<name>.safetensors` in the folder of the store) that is damaged, or that belongs to other shards, is named
    in a warning and computed again.
    """
    if path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                known = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                if file.metadata() == _stamp(path, known, shards):
                    return known
        except SafetensorError as error:
            logger.debug("%s: %s", path, error)
        logger.warning("%s is damaged or belongs to other features; computed again", path)
    known = compute()
    write_atomically(path, save(known, metadata=_stamp(path, known, shards)))
    return known


def _stamp(path: Path, tensors: dict[str, Tensor], shards: str) -> dict[str, str]:
    # safetensors checks its header only: a changed byte of a value would go unnoticed
    values = hashlib.sha256()
    for name in sorted(tensors):
        values.update(tensor_bytes(tensors[name]))
    return {f"otmerge_{path.stem}": f"of {shards} sha256 {values.hexdigest()}"}
