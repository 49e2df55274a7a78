"""An ONNX graph read from a file, and the tensors that it stores."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_graph(graph_file: Path) -> tuple[Any, dict[str, Tensor]]:
    """The graph, and its stored tensors by name; an ImportError that names the package onnx where it is missing."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("reading an ONNX graph needs the package onnx; run: pip install onnx") from error
    graph = onnx.load(graph_file).graph
    return graph, {one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()) for one in graph.initializer}
