"""The encoders of the suite `zoo`: a row each says how a tiny one of random weights is made, with its processor.

Rows are names and numbers: nothing is imported before one is built. Sizes are small, kinds of layers are the family's.
"""

import importlib.util
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """How to make one encoder.

    Attributes:
        model: Its class in transformers.
        config: Fields of its configuration that are not the family's defaults.
        processor: The class of its image processor, feature extractor or tokenizer; None where transformers makes none
            without a download.
        options: Arguments of that class; of a tokenizer, `vocabulary` (a function of `zoo_processors`).
        missing: Why there is no `processor`.
    """

    model: str
    config: dict[str, Any] = field(default_factory=dict)
    processor: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {"image_size": 32, "patch_size": 8, **SMALL}
_SQUARE = {"size": {"height": 32, "width": 32}}
_SHORT = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
_MAPS = {"hidden_sizes": [8, 16], "depths": [1, 1]}
_64 = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
_STAGES = {"image_size": 64, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
_WINDOWS = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
_NO_TORCHVISION = "its image processor takes torchvision"

VISION = {
    "vit": Family("ViTModel", PATCHES, "ViTImageProcessor", _SQUARE),
    "deit": Family("DeiTModel", PATCHES, "DeiTImageProcessor", {"size": _SQUARE["size"], "do_center_crop": False}),
    "dinov2": Family("Dinov2Model", PATCHES, "BitImageProcessor", _SHORT),
    "dinov2-registers": Family(
        "Dinov2WithRegistersModel", {"num_register_tokens": 2, **PATCHES}, "BitImageProcessor", _SHORT
    ),
    "dinov3-vit": Family("DINOv3ViTModel", {"num_register_tokens": 2, **PATCHES}, missing=_NO_TORCHVISION),
    "dinov3-convnext": Family(
        "DINOv3ConvNextModel", {**_MAPS, "layer_scale_init_value": 1.0}, missing=_NO_TORCHVISION
    ),
    "swin": Family("SwinModel", _WINDOWS, "ViTImageProcessor", _SQUARE),
    "swinv2": Family("Swinv2Model", _WINDOWS, "ViTImageProcessor", _SQUARE),
    "focalnet": Family(
        "FocalNetModel",
        {"image_size": 32, "embed_dim": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "focal_levels": [1, 1],
         "focal_windows": [1, 1]}, "BitImageProcessor", _SHORT,
    ),
    "beit": Family("BeitModel", PATCHES, "BeitImageProcessor", {"size": _SQUARE["size"], "do_center_crop": False}),
    "data2vec-vision": Family(
        "Data2VecVisionModel", PATCHES, "BeitImageProcessor", {"size": _SQUARE["size"], "do_center_crop": False}
    ),
    "vit-mae": Family("ViTMAEModel", PATCHES, "ViTImageProcessor", _SQUARE),
    "vit-msn": Family("ViTMSNModel", PATCHES, "ViTImageProcessor", _SQUARE),
    "i-jepa": Family("IJepaModel", PATCHES, "ViTImageProcessor", _SQUARE),
    "convnext": Family("ConvNextModel", {**_MAPS, "num_stages": 2, "layer_scale_init_value": 1.0},
                       "ConvNextImageProcessor", {"size": {"shortest_edge": 64}}),
    "convnextv2": Family(
        "ConvNextV2Model", {**_MAPS, "num_stages": 2}, "ConvNextImageProcessor", {"size": {"shortest_edge": 64}}
    ),
    "resnet": Family("ResNetModel", {"embedding_size": 8, **_MAPS}, "ConvNextImageProcessor",
                     {"size": {"shortest_edge": 64}}),
    "regnet": Family("RegNetModel", {"embedding_size": 8, "groups_width": 8, **_MAPS}, "ConvNextImageProcessor",
                     {"size": {"shortest_edge": 64}}),
    "bit": Family("BitModel", {"embedding_size": 8, "num_groups": 4, **_MAPS}, "BitImageProcessor", _64),
    "efficientnet": Family(
        "EfficientNetModel",
        {"image_size": 64, "width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 256},
        "EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}},
    ),
    "mobilenet-v1": Family("MobileNetV1Model", {"image_size": 64, "depth_multiplier": 0.25, "min_depth": 8},
                           "MobileNetV1ImageProcessor", _64),
    "mobilenet-v2": Family("MobileNetV2Model", {"image_size": 64, "depth_multiplier": 0.25, "min_depth": 8},
                           "MobileNetV2ImageProcessor", _64),
    "mobilevit": Family(
        "MobileViTModel",
        {"image_size": 64, "hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [4, 4, 8, 8, 16, 16, 16],
         "num_attention_heads": 2}, "MobileViTImageProcessor", _64,
    ),
    "mobilevitv2": Family(
        "MobileViTV2Model", {"image_size": 64, "width_multiplier": 0.125}, "MobileViTImageProcessor", _64
    ),
    "pvt": Family("PvtModel", {**_STAGES, "hidden_sizes": [8, 8, 16, 16]}, "PvtImageProcessor",
                  {"size": {"height": 64, "width": 64}}),
    "pvt-v2": Family("PvtV2Model", {**_STAGES, "hidden_sizes": [8, 8, 16, 16]}, "PvtImageProcessor",
                     {"size": {"height": 64, "width": 64}}),
    "segformer": Family("SegformerModel", {**_STAGES, "hidden_sizes": [8, 8, 16, 16]}, "SegformerImageProcessor",
                        {"size": {"height": 64, "width": 64}}),
    "levit": Family(
        "LevitModel",
        {"image_size": 64, "hidden_sizes": [16, 16, 16], "num_attention_heads": [1, 2, 2], "depths": [1, 1, 1],
         "key_dim": [8, 8, 8]}, "LevitImageProcessor", _64,
    ),
    "hiera": Family(
        "HieraModel",
        {"image_size": [32, 32], "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "query_stride": [2, 2],
         "num_query_pool": 1, "masked_unit_size": [4, 4]}, "BitImageProcessor", _SHORT,
    ),
    "poolformer": Family(
        "PoolFormerModel", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_scale_init_value": 1.0},
        "PoolFormerImageProcessor", _64,
    ),
    "clip-vision": Family("CLIPVisionModel", PATCHES, "CLIPImageProcessor", _SHORT),
    "siglip-vision": Family("SiglipVisionModel", PATCHES, "SiglipImageProcessor", _SQUARE),
    "siglip2-vision": Family("Siglip2VisionModel", {"num_patches": 16, "patch_size": 8, **SMALL},
                             "Siglip2ImageProcessor", {"patch_size": 8, "max_num_patches": 16}),
    "aimv2-vision": Family("Aimv2VisionModel", PATCHES, "CLIPImageProcessor", _SHORT),
    "sam-vision": Family(
        "SamVisionModel",
        {"image_size": 32, "patch_size": 4, "mlp_dim": 32, "output_channels": 8, "global_attn_indexes": [1],
         "window_size": 4, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        "SamImageProcessor", {"size": {"longest_edge": 32}, "pad_size": {"height": 32, "width": 32}},
    ),
    "sam2": Family(
        "Sam2HieraDetModel",
        {"image_size": [64, 64], "hidden_size": 8, "num_attention_heads": 1, "blocks_per_stage": [1, 1, 1, 1],
         "embed_dim_per_stage": [8, 16, 16, 24], "num_attention_heads_per_stage": [1, 1, 1, 1],
         "window_size_per_stage": [4, 4, 4, 4], "global_attention_blocks": [], "num_query_pool_stages": 1},
        missing=_NO_TORCHVISION,
    ),
}  # fmt: skip
if importlib.util.find_spec("timm") is not None:
    VISION["timm-wrapper"] = Family(
        "TimmWrapperModel", {"architecture": "resnet18", "model_args": {"in_chans": 3}}, "TimmWrapperImageProcessor"
    )

_CONVOLUTIONS = {
    "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "vocab_size": 30, **SMALL,
}  # fmt: skip
_LAYER_NORM = {"feat_extract_norm": "layer", **_CONVOLUTIONS}
_SPEECH = ("Wav2Vec2FeatureExtractor", {"return_attention_mask": True})
_SPEECH_UNMASKED = ("Wav2Vec2FeatureExtractor", {"return_attention_mask": False})

AUDIO = {
    "wav2vec2": Family("Wav2Vec2Model", _LAYER_NORM, *_SPEECH),
    "wav2vec2-group": Family("Wav2Vec2Model", _CONVOLUTIONS, *_SPEECH_UNMASKED),
    "wav2vec2-conformer": Family("Wav2Vec2ConformerModel", _LAYER_NORM, *_SPEECH),
    "hubert": Family("HubertModel", _LAYER_NORM, *_SPEECH),
    "hubert-group": Family("HubertModel", _CONVOLUTIONS, *_SPEECH_UNMASKED),
    "wavlm": Family("WavLMModel", _LAYER_NORM, *_SPEECH),
    "wavlm-group": Family("WavLMModel", _CONVOLUTIONS, *_SPEECH_UNMASKED),
    "sew": Family("SEWModel", {"squeeze_factor": 2, **_CONVOLUTIONS}, *_SPEECH_UNMASKED),
    "sew-layer": Family("SEWModel", {"squeeze_factor": 2, **_LAYER_NORM}, *_SPEECH),
    "sew-d": Family("SEWDModel", {"squeeze_factor": 2, **_LAYER_NORM}, *_SPEECH),
    "unispeech": Family("UniSpeechModel", _LAYER_NORM, *_SPEECH),
    "unispeech-sat": Family("UniSpeechSatModel", _LAYER_NORM, *_SPEECH),
    "data2vec-audio": Family("Data2VecAudioModel", {**_CONVOLUTIONS, "conv_pos_kernel_size": 3}, *_SPEECH),
    "wav2vec2-bert": Family(
        "Wav2Vec2BertModel", {"feature_projection_input_dim": 16, **SMALL}, "SeamlessM4TFeatureExtractor",
        {"feature_size": 8, "num_mel_bins": 8, "stride": 2},
    ),
    "whisper": Family(
        "WhisperModel",
        {"vocab_size": 60, "num_mel_bins": 8, "d_model": 16, "max_source_positions": 25, "encoder_layers": 1,
         "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
         "decoder_ffn_dim": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
        "WhisperFeatureExtractor", {"feature_size": 8, "chunk_length": 1, "hop_length": 320},
    ),
    "ast": Family(
        "ASTModel",
        {"patch_size": 8, "max_length": 32, "num_mel_bins": 16, "frequency_stride": 8, "time_stride": 8, **SMALL},
        "ASTFeatureExtractor", {"max_length": 32, "num_mel_bins": 16},
    ),
    "clap-audio": Family(
        "ClapModel",
        {"audio_config": {
            "window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4],
            "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16,
            "enable_fusion": True,
         }, "text_config": {"vocab_size": 40, **SMALL}, "projection_dim": 8},
        "ClapFeatureExtractor",
        {"feature_size": 16, "sampling_rate": 16_000, "max_length_s": 1, "hop_length": 320, "fft_window_size": 512},
    ),
    "moonshine": Family(
        "MoonshineModel",
        {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "encoder_num_hidden_layers": 2,
         "decoder_num_hidden_layers": 1, "encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2,
         "pad_head_dim_to_multiple_of": None}, *_SPEECH,
    ),
    "parakeet": Family(
        "ParakeetEncoder", {"num_mel_bins": 8, "subsampling_conv_channels": 8, **SMALL}, missing="its feature "
        "extractor takes librosa",
    ),
}  # fmt: skip

_FRAMES = {"image_size": 32, "patch_size": 8, "num_frames": 2, **SMALL}
OTHER = {  # no encoders of one image, sound or text: refused by name when merging
    "videomae": Family("VideoMAEModel", {"tubelet_size": 1, **_FRAMES}),
    "timesformer": Family("TimesformerModel", _FRAMES),
    "vivit": Family("VivitModel", {**_FRAMES, "tubelet_size": [1, 8, 8]}),
    "encodec": Family(
        "EncodecModel", {"num_filters": 4, "hidden_size": 8, "codebook_size": 16, "codebook_dim": 8,
                         "upsampling_ratios": [2, 2], "num_lstm_layers": 1}
    ),
    "perceiver": Family(
        "PerceiverModel", {"num_latents": 4, "d_latents": 16, "d_model": 16, "num_blocks": 1,
                           "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
                           "num_cross_attention_heads": 2, "vocab_size": 262}
    ),
    "univnet": Family("UnivNetModel", {"model_in_channels": 8, "model_hidden_channels": 8, "num_mel_bins": 8}),
    "patchtst": Family("PatchTSTModel", {"context_length": 32, "patch_length": 8, "d_model": 16, "ffn_dim": 32,
                                         "num_attention_heads": 2, "num_hidden_layers": 1}),
}  # fmt: skip
