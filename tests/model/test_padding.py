"""Padding changes no row: neither on which side it is, nor how much of it the batch's longest row brings."""

import copy

import numpy as np
import pytest
import torch
from test_errors import refused
from test_token_selection import MAKE as QUERIES
from transformers import (
    ConvBertConfig,
    ConvBertModel,
    FNetConfig,
    FNetModel,
    FunnelConfig,
    FunnelModel,
    GPT2Tokenizer,
    MoonshineConfig,
    MoonshineModel,
    SEWConfig,
    SEWModel,
    Siglip2Tokenizer,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    YosoConfig,
    YosoModel,
)

from otmerge_hf import OTMergeModel, OTMergeProcessor, OTMergeTextProcessor
from otmerge_hf.model.encoders import encoder_part, run_encoder
from otmerge_hf.model.padding import begin_left
from otmerge_hf.model.texts import load_tokenizer


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SOUND = SMALL | {
    "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
MAKE = {
    "fnet": lambda: FNetModel(FNetConfig(vocab_size=60, max_position_embeddings=32, **SMALL)),
    "funnel": lambda: FunnelModel(
        FunnelConfig(vocab_size=60, d_model=16, block_sizes=[1, 1], n_head=2, d_head=8, d_inner=32)
    ),
    "convbert": lambda: ConvBertModel(ConvBertConfig(vocab_size=60, embedding_size=16, **SMALL)),
    "yoso": lambda: YosoModel(YosoConfig(vocab_size=60, **SMALL)),
    "group-norm": lambda: Wav2Vec2Model(Wav2Vec2Config(**SOUND)),
    "layer-norm": lambda: Wav2Vec2Model(Wav2Vec2Config(feat_extract_norm="layer", **SOUND)),
    "sew": lambda: SEWModel(SEWConfig(squeeze_factor=2, **SOUND)),
    "moonshine": lambda: MoonshineModel(
        MoonshineConfig(
            vocab_size=60, hidden_size=16, intermediate_size=32, encoder_num_hidden_layers=1,
            decoder_num_hidden_layers=1, encoder_num_attention_heads=2, decoder_num_attention_heads=2,
        )
    ),
}  # fmt: skip
BYTES = {chr(code): code - 32 for code in range(32, 127)} | {"Ġ": 95, "<|endoftext|>": 96}


def made(name):
    """A family's encoder, with weights so large that what is not masked shows."""
    torch.manual_seed(0)
    encoder = encoder_part(MAKE[name]().eval(), "context")
    with torch.no_grad():
        for key, value in encoder.named_parameters():
            if value.dim() > 1 and not key.endswith("original0"):
                value.normal_(std=value[0].numel() ** -0.5)
    return encoder


@pytest.mark.parametrize("tokens", ["last_hidden_state", 1])
@pytest.mark.parametrize("name", MAKE)
def test_row_alone_is_the_row_in_a_batch(name, tokens):
    encoder, text = made(name), name in ("fnet", "funnel", "convbert", "yoso")
    if text:
        key, lengths, rows = "input_ids", (5, 8, 5, 3), torch.randint(5, 60, (4, 8))
    else:
        key, lengths, rows = "input_values", (4001, 6000, 4001, 3000), torch.randn(4, 6000)
    mask = (torch.arange(rows.shape[1]) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        together, real = run_encoder(encoder, {key: rows * mask}, tokens, mask)
        for row, length in enumerate(lengths):
            alone, _ = run_encoder(encoder, {key: rows[row : row + 1, :length]}, tokens, mask[row : row + 1, :length])
            assert real[row].sum() == alone.shape[1]
            torch.testing.assert_close(together[row, real[row].bool()], alone[0], atol=1e-4, rtol=1e-4)


def test_rows_apart_can_be_learnt_through():
    encoder, mask = made("group-norm"), torch.tensor([[1] * 600, [1] * 400 + [0] * 200])
    tokens, _ = run_encoder(encoder, {"input_values": torch.randn(2, 600) * mask}, "last_hidden_state", mask)
    tokens[1].sum().backward()
    assert encoder.feature_projection.projection.weight.grad.abs().sum() > 0


def test_only_encoders_that_see_padding_run_apart(monkeypatch):
    """The others keep their batch, which is faster on an accelerator."""
    for name, calls in (("layer-norm", 1), ("group-norm", 2)):
        encoder, seen = made(name), []
        forward = encoder.forward

        def counting(input_values, attention_mask=None, forward=forward, seen=seen, **options):
            seen.append(len(input_values))
            return forward(input_values, attention_mask=attention_mask, **options)

        monkeypatch.setattr(encoder, "forward", counting)
        mask = torch.tensor([[1] * 600, [1] * 400 + [0] * 200])
        run_encoder(encoder, {"input_values": torch.randn(2, 600) * mask}, "last_hidden_state", mask)
        assert len(seen) == calls


@pytest.mark.parametrize("query", ["bert", "gpt2", "distilbert", "roberta", "t5", "llama"])
def test_side_of_the_padding_does_not_matter(encoder, batch, query):
    pad = 1 if query == "roberta" else 0
    ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, pad)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    left = {
        "input_ids": torch.stack([row.roll(-length) for row, length in zip(ids, lengths, strict=True)]),
        "attention_mask": batch["attention_mask"].flip(1),
    }
    torch.manual_seed(0)
    asks = QUERIES[query]().eval() if query in QUERIES else encoder(query)
    model = OTMergeModel.from_encoders_pretrained(encoder("vit"), asks, shared_dim=16).eval()
    with torch.no_grad():
        usual = model(pixel_values=batch["pixel_values"], input_ids=ids, attention_mask=batch["attention_mask"])
        moved = model(pixel_values=batch["pixel_values"], **left)
    assert torch.equal(moved.query_mask, batch["attention_mask"])
    assert torch.equal(moved.query_embeds, usual.query_embeds)


def test_words_keep_their_order_and_their_kinds():
    ids, mask = torch.tensor([[0, 7, 8], [4, 5, 6]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    moved, real = begin_left({"input_ids": ids, "token_type_ids": ids * 10}, mask)
    assert moved["input_ids"].tolist() == [[7, 8, 0], [4, 5, 6]]
    assert moved["token_type_ids"].tolist() == [[70, 80, 0], [40, 50, 60]]
    assert real.tolist() == [[1, 1, 0], [1, 1, 1]]


def test_tokenizer_without_padding_pads_with_its_end(tmp_path):
    GPT2Tokenizer(vocab=BYTES, merges=[]).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    processor = OTMergeProcessor(ViTImageProcessor(), tokenizer)
    made = processor(text=["what?", "a"], return_tensors="pt")
    assert made["input_ids"][1].tolist() == [ord("a") - 32, 96, 96, 96, 96]
    assert made["attention_mask"].tolist() == [[1] * 5, [1, 0, 0, 0, 0]]


def test_tokenizer_that_cannot_pad_is_named(tokenizer):
    bare = GPT2Tokenizer(vocab=BYTES, merges=[])
    assert bare.pad_token is None
    with refused("`tokenizer` has no padding token, .* set `tokenizer.pad_token = tokenizer.eos_token`"):
        OTMergeProcessor(ViTImageProcessor(), bare)(text="what?")
    with refused("`context_tokenizer` has no padding token"):
        OTMergeTextProcessor(bare, copy.deepcopy(tokenizer))(context_text="what?", text="red")
    assert OTMergeProcessor(ViTImageProcessor(), bare)(text="a", padding=False)["input_ids"] == [ord("a") - 32]


def test_mask_is_made_where_the_tokenizer_would_not(tokenizer):
    quiet = copy.deepcopy(tokenizer)
    quiet.model_input_names = ["input_ids"]  # as FNet's
    made = OTMergeTextProcessor(quiet, quiet)(context_text=["red", "a red shape"], text=["is", "is the"])
    assert made["context_attention_mask"][0] == [1, 1, 1, 0, 0]
    assert made["attention_mask"] == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_texts_of_siglip_are_as_long_as_in_its_training():
    words = {word: i for i, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "a", "b"])}
    processor = OTMergeProcessor(ViTImageProcessor(), Siglip2Tokenizer(vocab=words, merges=[]))
    made = processor(text=["a b", "b"], return_tensors="pt")
    assert made["input_ids"].shape == (2, 64)
    assert "attention_mask" not in made
    assert processor(text=["a b"], padding=True, return_tensors="pt")["input_ids"].shape[1] < 64


def test_waveforms_through_the_processor(merge, tokenizer):
    """The extractor of a group norm says not to make a mask; the lengths are needed all the same."""
    from otmerge_hf import OTMergeAudioProcessor

    model = OTMergeModel.from_encoders_pretrained(
        made("group-norm"), merge().otmerge.query_encoder, shared_dim=16
    ).eval()
    processor = OTMergeAudioProcessor(Wav2Vec2FeatureExtractor(return_attention_mask=False), tokenizer)
    sounds = [np.random.default_rng(i).standard_normal(n).astype(np.float32) for i, n in enumerate((900, 600))]
    with torch.no_grad():
        both, second = (
            model.get_context_embeds(**processor(audio=some, sampling_rate=16_000, return_tensors="pt"))
            for some in (sounds, sounds[1:])
        )
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-5)
