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

    A file that is damaged, or that belongs to other shards, is named in a warning and computed again.

    Args:
        path: The file, `<name>.safetensors` in the folder of the store.
        shards: Digest of the shards.
        compute: Makes the tensors, by name.

    Returns:
        The tensors, by name.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "sum.safetensors"
        >>> remember(path, "shards' digest", lambda: {"sum": torch.ones(1)})
        {'sum': tensor([1.])}
        >>> remember(path, "shards' digest", lambda: {"sum": torch.zeros(1)})  # read, not computed
        {'sum': tensor([1.])}
    """
    known = _read(path, shards)
    if known is None:
        known = compute()
        write_atomically(path, save(known, metadata=_stamp(path, known, shards)))
    return known


def _read(path: Path, shards: str) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name).clone() for name in names}
            written = file.metadata()
    except SafetensorError as error:
        logger.warning("%s is damaged (%s); computed again", path, error)
        return None
    if written != _stamp(path, tensors, shards):
        logger.warning("%s is damaged or belongs to other features; computed again", path)
        return None
    return tensors


def _stamp(path: Path, tensors: dict[str, Tensor], shards: str) -> dict[str, str]:
    values = hashlib.sha256()
    for name in sorted(tensors):
        values.update(tensor_bytes(tensors[name]))
    return {f"otmerge_{path.stem}": f"of {shards} sha256 {values.hexdigest()}"}
