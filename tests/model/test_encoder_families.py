"""Any encoder: the right part is found in from_encoders_pretrained, and again after loading."""

import pytest
import torch
from transformers import (
    AutoModel,
    BartConfig,
    BartModel,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
    SwinConfig,
    SwinModel,
    T5Config,
    T5EncoderModel,
    T5Model,
)

from otmerge_hf import OTMergeConfig, OTMergeForQuestionAnswering, OTMergeModel


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
T5 = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
TOWERS = {
    "text_config": {"vocab_size": 60, "max_position_embeddings": 20, "bos_token_id": 1, "eos_token_id": 2, **SMALL},
    "vision_config": {"image_size": 32, "patch_size": 8, **SMALL},
}
MAKERS = {
    "t5": lambda: T5Model(T5),
    "t5-encoder": lambda: T5EncoderModel(T5),
    "bart": lambda: BartModel(
        BartConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=30,
        )
    ),
    "clip": lambda: CLIPModel(CLIPConfig(projection_dim=16, **TOWERS)),
    "siglip": lambda: SiglipModel(SiglipConfig(**TOWERS)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    ),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2)),
    "resnet": lambda: ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
    "swin": lambda: SwinModel(
        SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    ),
}  # fmt: skip
CONTEXT = {
    "pixel_values": {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))},
    "input_ids": {
        "context_input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]]),
        "context_attention_mask": torch.ones(2, 3),
    },
    "whisper": {"input_features": torch.randn(2, 8, 50), "context_attention_mask": torch.ones(2, 50)},
    "wav2vec2": {"input_values": torch.randn(2, 400), "context_attention_mask": torch.ones(2, 400).long()},
    "ast": {"input_values": torch.randn(2, 32, 16)},
}
QUERY = {
    "input_ids": torch.tensor([[5, 6, 7, 8], [9, 8, 0, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
}


@pytest.fixture
def make(encoder):
    def make(name):
        if name not in MAKERS:
            return encoder(name)
        torch.manual_seed(0)
        return MAKERS[name]().eval()

    return make


@pytest.mark.parametrize("by_folder", [False, True])
@pytest.mark.parametrize(
    ("context", "query", "parts"),
    [
        ("vit", "t5", ("ViTModel", "T5Stack")),
        ("vit", "t5-encoder", ("ViTModel", "T5Stack")),
        ("vit", "bart", ("ViTModel", "BartEncoder")),
        ("clip", "clip", ("CLIPVisionModel", "CLIPTextModel")),
        ("siglip", "siglip", ("SiglipVisionModel", "SiglipTextModel")),
        ("vit", "clip", ("ViTModel", "CLIPTextModel")),
        ("siglip", "bert", ("SiglipVisionModel", "BertModel")),
        ("whisper", "bert", ("WhisperEncoder", "BertModel")),
        ("wav2vec2", "bert", ("Wav2Vec2Model", "BertModel")),
        ("ast", "bert", ("ASTModel", "BertModel")),
        ("bert", "bert", ("BertModel", "BertModel")),
        ("t5", "t5", ("T5Stack", "T5Stack")),
        ("distilbert", "gpt2", ("DistilBertModel", "GPT2Model")),
        ("resnet", "bert", ("ResNetModel", "BertModel")),
        ("swin", "distilbert", ("SwinModel", "DistilBertModel")),
    ],
)
def test_part_that_encodes(make, tmp_path, context, query, parts, by_folder):
    sources = make(context), make(query)
    if by_folder:
        for source, place in zip(sources, ("c", "q"), strict=True):
            source.save_pretrained(tmp_path / place)
        sources = str(tmp_path / "c"), str(tmp_path / "q")
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(*sources, shared_dim=16, num_labels=3).eval()
    encoders = model.otmerge.context_encoder, model.otmerge.query_encoder
    assert tuple(type(encoder).__name__ for encoder in encoders) == parts
    key = context if context in CONTEXT else encoders[0].main_input_name
    given = QUERY | CONTEXT[key]
    with torch.no_grad():
        logits = model(**given).logits
    assert torch.isfinite(logits).all()

    model.save_pretrained(tmp_path / "merge")
    again, info = OTMergeForQuestionAnswering.from_pretrained(tmp_path / "merge", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert tuple(type(e).__name__ for e in (again.otmerge.context_encoder, again.otmerge.query_encoder)) == parts
    assert torch.equal(again(**given).logits, logits)
    # and once more: what was loaded can be saved
    again.save_pretrained(tmp_path / "again")
    assert torch.equal(
        AutoModel.from_pretrained(tmp_path / "again")(**given).query_embeds, model(**given).query_embeds
    )


def test_weights_come_from_the_pretrained_encoder(make, tmp_path):
    """Not from a fresh initialisation of the merge."""
    clip = make("clip")
    clip.save_pretrained(tmp_path)
    model = OTMergeModel.from_encoders_pretrained(str(tmp_path), str(tmp_path), shared_dim=16)
    for part, tower in ((model.context_encoder, clip.vision_model), (model.query_encoder, clip.text_model)):
        for name, value in tower.state_dict().items():
            assert torch.equal(part.state_dict()[name], value), name


def test_encoder_options_reach_their_side(encoder, tmp_path):
    encoder("bert").save_pretrained(tmp_path)
    model = OTMergeModel.from_encoders_pretrained(
        encoder("vit"), str(tmp_path), query_kwargs={"dtype": torch.bfloat16}, shared_dim=16
    )
    assert model.query_encoder.dtype == torch.bfloat16
    assert model.context_encoder.dtype == model.query_adapter.map[0].weight.dtype == torch.float32
    given = QUERY | CONTEXT["pixel_values"]
    assert model(**given).query_embeds.dtype == torch.float32


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_two_tower_configuration_as_it_is(make, name):
    whole = make(name).config
    config = OTMergeConfig.from_encoder_configs(whole, whole, shared_dim=16)
    assert (config.feature_dim("context"), config.feature_dim("query")) == (16, 16)
    model = OTMergeModel(config)
    assert type(model.context_encoder).__name__.endswith("VisionModel")
    assert type(model.query_encoder).__name__.endswith("TextModel")


def test_width_that_the_configuration_states_wrongly_is_measured(make):
    """Scaled-down EfficientNets state the width of the unscaled one."""
    resnet = make("resnet")
    model = OTMergeModel.from_encoders_pretrained(resnet, make("bert"), shared_dim=16, context_tokens=0)
    assert model.config.context_feature_dim == 8
    assert model(**QUERY, **CONTEXT["pixel_values"]).context_tokens.shape[-1] == 8


def test_pretrained_encoders_are_not_initialised_again(encoder):
    vit = encoder("vit")
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(vit, encoder("bert"), shared_dim=16, num_labels=2)
    assert all(torch.equal(before[n], v) for n, v in model.otmerge.context_encoder.state_dict().items())


@pytest.mark.parametrize("name", ["bert", "t5", "clip"])
def test_word_embeddings_are_the_querys(make, name):
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(make("vit"), make(name), shared_dim=16)
    words = model.get_input_embeddings()
    assert words is model.otmerge.query_encoder.get_input_embeddings()
    assert words.weight.shape[1] == 16
