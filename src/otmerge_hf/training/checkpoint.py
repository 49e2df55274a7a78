"""Tensors in a Trainer's checkpoint: those of callbacks, kept as JSON, and the optimiser's."""

import base64
from typing import Any

import torch


def pack_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """Turn named tensors into JSON, bit by bit (four characters for three bytes)."""
    return {
        name: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "base64": base64.b64encode(
                tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            ).decode(),
        }
        for name, tensor in tensors.items()
    }


def unpack_tensors(packed: dict[str, dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the tensors, on the CPU, that [`pack_tensors`] packed."""
    return {
        name: torch.frombuffer(bytearray(base64.b64decode(entry["base64"])), dtype=getattr(torch, entry["dtype"]))
        .reshape(entry["shape"])
        .clone()
        for name, entry in packed.items()
    }


def widen_scalar_averages(optimizer: torch.optim.Optimizer) -> None:
    """Give averages that an older checkpoint holds as scalars the shape (1,) of their parameter.

    The learned temperature was a scalar once. Trainer loads an optimiser's state unseen, and Adam's next step would
    fail on it.

    Example:
        >>> scale = torch.nn.Parameter(torch.zeros(1))
        >>> adam = torch.optim.Adam([scale])
        >>> adam.state[scale] = {"step": torch.tensor(3.0), "exp_avg": torch.tensor(0.5)}
        >>> widen_scalar_averages(adam)
        >>> adam.state[scale]
        {'step': tensor(3.), 'exp_avg': tensor([0.5000])}
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            # `step` counts, and is a scalar for every parameter
            if parameter.shape == (1,) and name != "step" and isinstance(value, torch.Tensor) and value.dim() == 0:
                state[name] = value.reshape(1)
