"""What every export checks before it works, the inputs that it is tried on, and adapters as plain affine maps."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..model.modality import CONTEXTS, IMAGE, modality_of


TOLERANCE = 1e-4  # in float32, of what is made alike and differs by rounding alone
_TEXTS = ["a", "what is the shape that is seen here?"]


def new_folder(directory: str | os.PathLike) -> Path:
    """Take a folder that is new or empty: its files would be mixed with an export's, or replaced.

    Raises:
        ValueError: If it is a file, or holds something.
    """
    folder = Path(directory)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`directory` {str(folder)!r} is there and not empty; expected a new or an empty folder.")
    return folder


def check_no_sound(base: Any) -> None:
    """Raise ValueError if the context is a sound: neither format brings its mask to the tokens' length."""
    row = modality_of("context", base.context_encoder)
    if row not in (IMAGE, CONTEXTS[-1]):
        raise ValueError(
            f"the context is a sound ({row.argument}); expected images or texts, sounds are not exported."
        )


def probe(base: Any, processor: Any, side: str, count: int = 2) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """One or two inputs of a side, as a user has them and as the model takes them: texts of two lengths, or noise."""
    row = modality_of(side, getattr(base, f"{side}_encoder"))
    inputs: list[Any] = _TEXTS[:count]
    if row is IMAGE:
        noise = torch.randint(0, 256, (count, 64, 64, 3), generator=torch.Generator().manual_seed(0))
        inputs = [Image.fromarray(picture.byte().numpy()) for picture in noise]
    return inputs, dict(processor(**{row.call_argument: inputs}, return_tensors="pt").to(base.device))


@torch.no_grad()
def affine_map(adapter: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (D, D_side) and bias (D,) of an affine adapter, in float64, by what it makes of 0 and unit vectors."""
    adapter = copy.deepcopy(adapter).double()
    points = torch.eye(adapter.in_dim, dtype=torch.float64, device=next(adapter.parameters()).device)
    bias = adapter(torch.zeros_like(points[:1]))[0]
    return (adapter(points) - bias).T, bias
