"""A callback's tensors in a Trainer's checkpoint, which keeps callbacks' states as JSON."""

import base64
from typing import Any

import torch


def pack_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """Turn named tensors into JSON, bit by bit (four characters for three bytes).

    Example:
        >>> packed = pack_tensors({"a": torch.tensor([1.0, 0.1])})
        >>> unpack_tensors(packed)["a"]
        tensor([1.0000, 0.1000])
    """
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
