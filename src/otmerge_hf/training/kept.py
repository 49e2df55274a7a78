"""Stages of a long run that are finished, kept in a folder: after an interruption they are not done again."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainerCallback

from .linear_fit import LinearFit


_COMPLETE = "complete"
_NOTES = "notes"


class Kept:
    """Named stages, a file each, in a folder; with `folder=None` nothing is kept.

    A stage that is there is taken as it is: other rows or settings need another folder.

    Example:
        >>> import tempfile, torch
        >>> kept = Kept(tempfile.mkdtemp())
        >>> kept.write("fit", {"bias": torch.ones(2)}, {"steps": 3})
        >>> kept.read("fit")
        ({'bias': tensor([1., 1.])}, {'steps': 3})
    """

    def __init__(self, folder: str | os.PathLike | None) -> None:
        self.folder = None if folder is None else Path(folder)

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and notes of a finished stage; None if it is not finished."""
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            # cloned: matrix products differ in the last bit by where in memory a matrix begins, and torch's own
            # begin at multiples of 64 bytes, a file's anywhere
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - it is no dict
            return tensors, json.loads((file.metadata() or {})[_NOTES])

    def write(self, name: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Keep a stage; the file is there whole or not at all."""
        if (path := self._path(name)) is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(contiguous, unfinished, metadata={_NOTES: json.dumps(notes)})
        unfinished.replace(path)

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.safetensors"


def write_linear_fit(kept: Kept, name: str, fit: LinearFit) -> None:
    """Keep a fit of the linear path."""
    kept.write(name, {**fit.weights, "bias": fit.bias}, {"strengths": fit.strengths, "losses": fit.losses})


def read_linear_fit(kept: Kept, name: str) -> LinearFit | None:
    """Return the fit that [`write_linear_fit`] kept, if there is one."""
    if (found := kept.read(name)) is None:
        return None
    tensors, notes = found
    bias = tensors.pop("bias")
    weights = {part: tensors[part] for part in notes["strengths"]}  # in the order of entering
    return LinearFit(weights, bias, notes["strengths"], notes["losses"])


class MarkComplete(TrainerCallback):
    """Puts a mark into a checkpoint once all of it is written: a killed process may leave half of one."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_complete(folder: Path, before: float = float("inf")) -> Path | None:
    """The latest marked checkpoint of fewer steps than `before`; None if there is none."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{_COMPLETE}") if _steps(path.parent) < before]
    return max(found, key=_steps, default=None)


def _steps(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
