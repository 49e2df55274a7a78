"""MiniLM-L3's weights out of an ONNX graph: the graph's file in, an equal transformers `BertModel` out."""

import re
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from .onnx_graph import read_graph


_PREFIX = "model.0.auto_model."
# The exporter folded the transpose into the matrices of linear layers and gave those numbers for names; the nodes that
# multiply by them still carry the layer's path.
_LINEAR = re.compile(r"/model/model\.0/auto_model/(.+)/MatMul")


def build_minilm_l3(graph_file: Path) -> BertModel:
    """Three-layer BERT, 384 wide, with the graph's weights; a ValueError if they are not exactly those of the model.

    The graph has no pooler: an identity stands in, so that `pooler_output` is the tanh of the first token's state
    and not of something drawn at random.
    """
    graph, stored = read_graph(graph_file)
    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items() if name.startswith(_PREFIX)}
    for node in graph.node:
        path = _LINEAR.fullmatch(node.name)
        if path and node.input[1] in stored:
            weights[f"{path[1].replace('/', '.')}.weight"] = stored[node.input[1]].T.contiguous()
    config = BertConfig(hidden_size=384, num_hidden_layers=3, num_attention_heads=12, intermediate_size=1536)
    weights |= {"pooler.dense.weight": torch.eye(384), "pooler.dense.bias": torch.zeros(384)}
    model = BertModel(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"graph_file {str(graph_file)!r} does not hold MiniLM-L3's weights: {error}") from error
    return model.eval()
