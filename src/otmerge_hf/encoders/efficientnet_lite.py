"""EfficientNet-Lite in terms of transformers' EfficientNet: configuration, weights, image processor.

In: the original weights file. Out: an equal transformers model and its image processor, in memory.
"""

import math
import re
from pathlib import Path

import torch
from transformers import EfficientNetConfig, EfficientNetForImageClassification, EfficientNetImageProcessorPil


# (width, depth) multipliers of the published models. Lite never scales the stem, the head, or the number of
# blocks in the first and last stage; transformers' own coefficients scale all of them and cannot be used.
COEFFICIENTS = {f"efficientnet-lite{i}": pair for i, pair in enumerate([(1.0, 1.0), (1.0, 1.1), (1.1, 1.2)])}
_CHANNELS = (16, 24, 40, 80, 112, 192, 320)
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
# Only for sides that are a multiple of this does transformers pad stride-2 convolutions as the original does.
TOTAL_STRIDE = 32

# Original name -> transformers name.
_RENAMES = (
    (r"_conv_stem\.", "efficientnet.embeddings.convolution."),
    (r"_bn0\.", "efficientnet.embeddings.batchnorm."),
    (r"_blocks\.(\d+)\._expand_conv\.", r"efficientnet.encoder.blocks.\1.expansion.expand_conv."),
    (r"_blocks\.(\d+)\._bn0\.", r"efficientnet.encoder.blocks.\1.expansion.expand_bn."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"efficientnet.encoder.blocks.\1.depthwise_conv.depthwise_conv."),
    (r"_blocks\.(\d+)\._bn1\.", r"efficientnet.encoder.blocks.\1.depthwise_conv.depthwise_norm."),
    (r"_blocks\.(\d+)\._project_conv\.", r"efficientnet.encoder.blocks.\1.projection.project_conv."),
    (r"_blocks\.(\d+)\._bn2\.", r"efficientnet.encoder.blocks.\1.projection.project_bn."),
    (r"_conv_head\.", "efficientnet.encoder.top_conv."),
    (r"_bn1\.", "efficientnet.encoder.top_bn."),
    (r"_fc\.", "classifier."),
)


def _round_channels(channels: int, width: float) -> int:
    """Scale and round to a multiple of 8, never losing more than a tenth (TensorFlow's rule)."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _config(name: str, image_size: int) -> EfficientNetConfig:
    width, depth = COEFFICIENTS[name]
    channels = [_round_channels(c, width) for c in _CHANNELS]
    return EfficientNetConfig(
        image_size=image_size,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        in_channels=[32, *channels[:-1]],
        out_channels=channels,
        num_block_repeats=[_REPEATS[0], *(math.ceil(depth * r) for r in _REPEATS[1:-1]), _REPEATS[-1]],
        hidden_dim=1280,
        hidden_act="relu6",
        squeeze_expansion_ratio=1e-6,  # one channel: Lite has no squeeze-and-excite, transformers always has
        batch_norm_eps=1e-3,
        batch_norm_momentum=0.01,  # torch's sense; transformers' default 0.99 is TensorFlow's
        dropout_rate=0.3 if name.endswith("2") else 0.2,
        num_labels=1000,  # type: ignore[call-arg]
    )


def build_model(name: str, weights: Path, image_size: int) -> EfficientNetForImageClassification:
    """The original weights in a transformers model, in evaluation mode; a ValueError if they do not fit it."""
    model = EfficientNetForImageClassification(_config(name, image_size))
    source = torch.load(weights, map_location="cpu", weights_only=True)
    result = model.load_state_dict({_rename(key): value for key, value in source.items()}, strict=False)
    missing = [key for key in result.missing_keys if ".squeeze_excite." not in key]
    if missing or result.unexpected_keys:
        raise ValueError(f"{weights.name} does not fit {name}: missing {missing}, unexpected {result.unexpected_keys}")
    for key, parameter in model.named_parameters():
        if ".squeeze_excite." in key:
            # sigmoid(40) is exactly 1.0 in float32, bfloat16 and float16: the gate multiplies by one.
            torch.nn.init.constant_(parameter, 40.0 if key.endswith("expand.bias") else 0.0)
    return model.eval()


def _rename(key: str) -> str:
    hits = (re.subn(f"^{pattern}", replacement, key) for pattern, replacement in _RENAMES)
    return next((renamed for renamed, count in hits if count), key)  # the caller reports an unknown one as unexpected


def build_image_processor(image_size: int) -> EfficientNetImageProcessorPil:
    """Pixels to (x - 127) / 128, bicubic, no crop, as the weights were trained."""
    side = {"height": image_size, "width": image_size}
    return EfficientNetImageProcessorPil(
        size=side,
        resample=3,
        crop_size=side,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
        include_top=False,
    )
