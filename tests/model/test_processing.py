"""Processors: what they pass on, what they call it, and what comes back from disk."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from otmerge_hf import OTMergeAudioProcessor, OTMergeProcessor, OTMergeTextProcessor


RATE = 16_000


@pytest.fixture
def waveforms():
    generator = np.random.default_rng(0)
    return [generator.normal(size=size).astype(np.float32) for size in (8_000, 5_000)]


def test_both_sides(processor, images):
    batch = processor(images=images[:2], text=["what color ?", "is there a red shape ?"], return_tensors="pt")
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 8)
    assert batch["attention_mask"].sum(1).tolist() == [5, 8]


def test_one_side_alone(processor, images):
    assert set(processor(images=images[0])) == {"pixel_values"}
    assert "pixel_values" not in processor(text="what ?")


def test_options_of_the_tokenizer_win(processor):
    long = "red " * 50
    assert processor(text=long, return_tensors="pt")["input_ids"].shape == (1, 32)  # the tokenizer's own limit
    assert processor(text=long, return_tensors="pt", max_length=7)["input_ids"].shape == (1, 7)
    assert len(processor(text=long, truncation=False)["input_ids"]) == 52
    padded = {"padding": "max_length", "max_length": 12}
    assert processor(text="red", return_tensors="pt", **padded)["input_ids"].shape == (1, 12)
    assert processor(text="red", return_tensors="pt", text_kwargs=padded)["input_ids"].shape == (1, 12)
    assert [len(ids) for ids in processor(text=["red", "red green"], padding=False)["input_ids"]] == [3, 4]


def test_image_processor_round_trip(processor, images, tmp_path):
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is OTMergeProcessor
    given = {"images": images, "text": ["what color ?"] * 3, "return_tensors": "pt"}
    first, second = processor(**given), again(**given)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert AutoImageProcessor.from_pretrained(tmp_path).size == processor.image_processor.size
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(processor.tokenizer)


@pytest.mark.parametrize(
    ("name", "key"), [("whisper", "input_features"), ("wav2vec2", "input_values"), ("ast", "input_values")]
)
def test_audio_batch_goes_into_the_model(merge, feature_extractor, tokenizer, waveforms, tmp_path, name, key):
    processor = OTMergeAudioProcessor(feature_extractor(name), tokenizer)
    batch = processor(
        audio=waveforms, text=["what ?", "is there a red shape ?"], sampling_rate=RATE, return_tensors="pt"
    )
    assert key in batch
    assert batch["attention_mask"].shape == batch["input_ids"].shape == (2, 8)  # the question's
    assert processor.context_input_names == [key]
    if name != "ast":
        assert batch["context_attention_mask"].shape[0] == 2
    model = merge(name)
    processor.check_model(model)
    with torch.no_grad():
        outputs = model(**batch)
    assert torch.isfinite(outputs.logits).all()

    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is OTMergeAudioProcessor
    assert type(OTMergeProcessor.from_pretrained(tmp_path)) is OTMergeAudioProcessor
    second = again(audio=waveforms, text=["what ?", "is there a red shape ?"], sampling_rate=RATE, return_tensors="pt")
    assert all(torch.equal(torch.as_tensor(batch[n]), torch.as_tensor(second[n])) for n in batch)


def test_waveforms_of_different_length_are_padded_by_default(feature_extractor, tokenizer, waveforms):
    batch = OTMergeAudioProcessor(feature_extractor("wav2vec2"), tokenizer)(
        audio=waveforms, sampling_rate=RATE, return_tensors="pt"
    )
    assert batch["input_values"].shape == (2, 8_000)
    assert batch["context_attention_mask"].sum(1).tolist() == [8_000, 5_000]


def test_longer_padded_sound_gives_the_same_answer(merge, feature_extractor, tokenizer, waveforms):
    processor = OTMergeAudioProcessor(feature_extractor("wav2vec2"), tokenizer)
    model = merge("wav2vec2")
    both = processor(audio=waveforms, text=["what ?"] * 2, sampling_rate=RATE, return_tensors="pt")
    short = processor(audio=waveforms[1:], text=["what ?"], sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        long, alone = model(**both), model(**short)
    tokens = int(long.context_mask[1].sum())
    assert tokens == alone.context_shared.shape[1]
    torch.testing.assert_close(long.logits[1], alone.logits[0], atol=1e-4, rtol=1e-3)


def test_whisper_mask_is_shortened_with_its_tokens(merge, feature_extractor, tokenizer, waveforms):
    batch = OTMergeAudioProcessor(feature_extractor("whisper"), tokenizer)(
        audio=waveforms, text=["what ?"] * 2, sampling_rate=RATE, return_tensors="pt"
    )
    with torch.no_grad():
        outputs = merge("whisper")(**batch)
    frames = batch["context_attention_mask"].sum(1)
    assert outputs.context_mask.shape == outputs.context_shared.shape[:2]
    assert outputs.context_mask.sum(1).tolist() == [-(-int(n) // 2) for n in frames]


def test_wrong_sampling_rate(feature_extractor, tokenizer, waveforms):
    processor = OTMergeAudioProcessor(feature_extractor("whisper"), tokenizer)
    with pytest.raises(ValueError, match="sampling rate"):
        processor(audio=waveforms[0], sampling_rate=8_000)
    with pytest.raises(ValueError, match="`sampling_rate` is missing"):
        processor(audio=waveforms[0])


def test_processor_is_made_of_the_encoders_own(processor, feature_extractor, tmp_path):
    processor.image_processor.save_pretrained(tmp_path / "image")
    processor.tokenizer.save_pretrained(tmp_path / "text")
    feature_extractor("whisper").save_pretrained(tmp_path / "audio")
    made = OTMergeProcessor.from_encoders_pretrained(str(tmp_path / "image"), str(tmp_path / "text"))
    assert type(made) is OTMergeProcessor
    resized = OTMergeProcessor.from_encoders_pretrained(
        str(tmp_path / "image"), str(tmp_path / "text"), context_kwargs={"size": {"height": 48, "width": 48}}
    )
    assert resized.image_processor.size["height"] == 48
    made = OTMergeProcessor.from_encoders_pretrained(str(tmp_path / "audio"), str(tmp_path / "text"))
    assert type(made) is OTMergeAudioProcessor


def test_one_text_is_a_batch_of_one_on_both_sides(merge, feature_extractor, tokenizer, waveforms):
    processor = OTMergeTextProcessor(tokenizer, tokenizer)
    one, many = (
        processor(context_text=a, text=b, return_tensors="pt") for a, b in (("red", "what ?"), (["red"], ["what ?"]))
    )
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    assert merge("bert")(**one).logits.shape == (1, 3)
    assert processor(context_text="red", text="what ?")["input_ids"] == tokenizer("what ?")["input_ids"]  # no tensors
    audio = OTMergeAudioProcessor(feature_extractor("whisper"), tokenizer)
    batch = audio(audio=waveforms[0], text="what ?", sampling_rate=RATE, return_tensors="pt")
    assert merge("whisper")(**batch).logits.shape == (1, 3)


def test_a_text_processor_cuts_either_side_at_its_own_length(merge, tokenizer):
    long = copy.deepcopy(tokenizer)
    long.model_max_length = 60
    processor = OTMergeTextProcessor(long, tokenizer)
    batch = processor(context_text=["red " * 99, "green"], text=["blue " * 99, "what ?"], return_tensors="pt")
    assert batch["context_input_ids"].shape == (2, 60)
    assert batch["input_ids"].shape == (2, 32)
    alone = processor(context_text="green", text="what ?", return_tensors="pt")
    with torch.no_grad():
        model = merge("bert")
        torch.testing.assert_close(model(**batch).logits[1], model(**alone).logits[0], atol=1e-5, rtol=1e-4)
