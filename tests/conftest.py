"""Tiny random encoders, built once and copied for every test, and what goes with them."""

import copy
import logging

import datasets
import pytest
import torch
from PIL import Image
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    BertModel,
    BertTokenizer,
    EfficientNetConfig,
    EfficientNetModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.utils import logging as transformers_logging

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeProcessor


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "what", "color", "is", "the", "shape", "?", "there", "a", "red", "green", "blue", "yes", "no"]
ANSWERS = ["red", "green", "blue"]


LOGGERS = ("otmerge_hf", "otmerge_hf.features", "otmerge_hf.training", "huggingface_hub.repocard")


@pytest.fixture(autouse=True)
def loud_as_before():
    """What a command says and shows is the process's: put back after each test, or other tests would hear of it."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    transformers_logging.set_verbosity(verbosity)
    if bars:
        transformers_logging.enable_progress_bar()
    datasets.enable_progress_bars()


def _build(name):
    torch.manual_seed(sum(map(ord, name)))
    if name == "vit":
        return ViTModel(ViTConfig(image_size=32, patch_size=8, **SMALL))
    if name == "bert":
        return BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **SMALL))
    if name == "efficientnet":  # 4 x 4 tokens of a 128-pixel image
        return EfficientNetModel(
            EfficientNetConfig(image_size=128, width_coefficient=0.2, depth_coefficient=0.2, hidden_dim=256)
        )
    if name == "whisper":
        return WhisperModel(
            WhisperConfig(
                vocab_size=60, num_mel_bins=8, d_model=16, max_source_positions=25, encoder_layers=1,
                decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
                decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            )
        )  # fmt: skip
    if name == "wav2vec2":
        return Wav2Vec2Model(
            Wav2Vec2Config(
                conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 4), num_feat_extract_layers=2,
                num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, feat_extract_norm="layer", **SMALL,
            )
        )  # fmt: skip
    if name == "ast":
        return ASTModel(
            ASTConfig(patch_size=8, max_length=32, num_mel_bins=16, frequency_stride=8, time_stride=8, **SMALL)
        )
    raise ValueError(name)


@pytest.fixture(scope="session")
def built_encoders():
    return {}


@pytest.fixture
def encoder(built_encoders):
    """`encoder(name)`: a fresh copy of a tiny random encoder, in eval()."""

    def make(name):
        if name not in built_encoders:
            built_encoders[name] = _build(name).eval()
        return copy.deepcopy(built_encoders[name])

    return make


@pytest.fixture
def merge(encoder):
    """`merge(context="vit", query="bert", cls=..., **config)`: a merge of tiny encoders with seeded weights."""

    def make(context="vit", query="bert", cls=OTMergeForQuestionAnswering, seed=0, **config):
        options = {"shared_dim": 16, "fuser_num_heads": 2, "adapter_hidden_size": 24} | config
        if cls is OTMergeForQuestionAnswering:
            names = dict(enumerate(ANSWERS))
            options = {"id2label": names, "label2id": {name: i for i, name in names.items()}} | options
        encoders = encoder(context), encoder(query)  # first: building one draws random numbers
        torch.manual_seed(seed)
        return cls.from_encoders_pretrained(*encoders, **options).eval()

    return make


@pytest.fixture
def batch():
    """Three images and three questions, the second and third shorter than the first."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0]])
    return {
        "pixel_values": torch.randn(3, 3, 32, 32, generator=generator),
        "input_ids": torch.randint(5, len(WORDS), (3, 7), generator=generator) * mask,
        "attention_mask": mask,
    }


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    vocabulary = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    return BertTokenizer(str(vocabulary), model_max_length=32)


@pytest.fixture
def processor(tokenizer):
    return OTMergeProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), copy.deepcopy(tokenizer))


@pytest.fixture
def encoder_folders(tmp_path, encoder, tokenizer):
    """Folders of a tiny image and a tiny text encoder, with what makes their inputs."""
    encoder("vit").save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    encoder("bert").save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return str(tmp_path / "vit"), str(tmp_path / "bert")


@pytest.fixture
def feature_extractor():
    """`feature_extractor(name)` for the audio encoders of `encoder`."""

    def make(name):
        if name == "whisper":  # one second in 50 frames
            return WhisperFeatureExtractor(feature_size=8, chunk_length=1, hop_length=320)
        if name == "wav2vec2":
            return Wav2Vec2FeatureExtractor(return_attention_mask=True)
        return ASTFeatureExtractor(max_length=32, num_mel_bins=16)

    return make


@pytest.fixture
def images():
    """Three plain pictures that the encoders tell apart."""
    return [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue")]
