"""A ViT-S/14's weights out of an ONNX graph: the graph's file in, an equal transformers `Dinov2Model` out."""

from pathlib import Path
from typing import Any

import torch
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .onnx_graph import read_graph


_PREFIX = "backbone."
_SIDE = 224  # pixels; the graph's own, 16 x 16 patches


def build_vit_small(graph_file: Path) -> Dinov2Model:
    """ViT-S/14 of DINOv2's layout with the graph's weights; a ValueError if they are not exactly those of the model.

    The graph goes on to a saliency map, whose layers are left out. The exporter gave numbers for names to what it
    folded: a linear layer's matrix is found by the bias that is added to its product, the two parts of the position
    embedding by the layers that they are added in.
    """
    graph, stored = read_graph(graph_file)
    weights = {name.removeprefix(_PREFIX): value for name, value in stored.items() if name.startswith(_PREFIX)}
    makers = {name: node for node in graph.node for name in node.output}
    positions = []
    for node in graph.node:
        if node.op_type == "Add":
            biases = [name for name in node.input if name.startswith(_PREFIX) and name.endswith(".bias")]
            products = [makers[name] for name in node.input if name in makers and makers[name].op_type == "MatMul"]
            if biases and products and products[0].input[1] in stored:
                name = biases[0].removeprefix(_PREFIX).removesuffix("bias") + "weight"
                weights[name] = stored[products[0].input[1]].T.contiguous()
        elif node.name.startswith("/backbone/embeddings/"):
            named = [name for name in node.input if name in stored and not name.startswith(_PREFIX)]
            positions += [stored[name] for name in named if stored[name].dim() == 3]
    positions.sort(key=lambda part: part.shape[1])  # the class token's, then the patches'
    if positions:
        weights["embeddings.position_embeddings"] = torch.cat(positions, dim=1)
    # by the names of DINOv2's checkpoints, which transformers brings to those of its own version
    found: Any = Dinov2Model.from_pretrained(
        None, config=vit_small_config(), state_dict=weights, output_loading_info=True
    )
    model, report = found
    if wrong := {kind: sorted(map(str, names)) for kind, names in report.items() if names}:
        raise ValueError(f"graph_file {str(graph_file)!r} does not hold the ViT's weights: {wrong}")
    return model.eval()


def vit_small_config() -> Dinov2Config:
    """ViT-S/14, 384 wide and 12 layers deep; positions of 518 pixels, which are interpolated to the image's."""
    return Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, use_mask_token=False)


def build_vit_processor() -> BitImageProcessorPil:
    """The whole image to 224 x 224 pixels, standardised as the graph's package does, which pads in place of it."""
    return BitImageProcessorPil(
        size={"height": _SIDE, "width": _SIDE},
        resample=3,
        do_center_crop=False,
        image_mean=IMAGENET_DEFAULT_MEAN,
        image_std=IMAGENET_DEFAULT_STD,
    )
