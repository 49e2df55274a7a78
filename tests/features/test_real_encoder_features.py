"""Cached features of the demo's encoders equal those computed directly."""

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from otmerge_hf.data import image_paths, index_distinct, load_easy_vqa
from otmerge_hf.encoders import convert_efficientnet_lite, minilm_l6_path
from otmerge_hf.features import compute_features, encoder_key


@pytest.fixture
def image_side(tmp_path):
    folder = convert_efficientnet_lite(output_dir=tmp_path / "lite0", image_size=64)
    encoder = AutoModel.from_pretrained(folder).eval()
    return encoder, AutoImageProcessor.from_pretrained(folder)


def _encode_images(encoder, processor):
    def encode(paths):
        pixels = processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")["pixel_values"]
        return encoder(pixels).last_hidden_state.flatten(2).transpose(1, 2), None

    return encode


def test_image_features(tmp_path, image_side):
    encode, paths = _encode_images(*image_side), image_paths("test")[:10]
    key = encoder_key(*image_side, tokens="last_hidden_state", dtype=torch.float32)
    options = {"cache_dir": tmp_path / "cache", "key": key, "batch_size": 4, "shard_size": 6, "progress": False}
    store = compute_features(encode, paths, **options)
    features, mask = store.batch([9, 0, 4])
    assert features.shape == (3, 4, 1280)
    assert mask.all()
    with torch.no_grad():
        torch.testing.assert_close(features, encode([paths[9], paths[0], paths[4]])[0], rtol=0, atol=1e-4)
    assert compute_features(encode, paths, **options).reused


def test_memory_layout_is_not_part_of_the_key(image_side):
    encoder, processor = image_side
    key = encoder_key(encoder, processor, tokens="last_hidden_state", dtype=torch.float32)
    encoder.to(memory_format=torch.channels_last)
    assert encoder_key(encoder, processor, tokens="last_hidden_state", dtype=torch.float32) == key


def test_question_features(tmp_path):
    encoder, tokenizer = (
        AutoModel.from_pretrained(minilm_l6_path()).eval(),
        AutoTokenizer.from_pretrained(minilm_l6_path()),
    )
    questions, rows = index_distinct(load_easy_vqa("test")["question"])
    assert len(questions) == 107

    def encode(texts):
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        return encoder(**batch).last_hidden_state, batch["attention_mask"]

    key = encoder_key(encoder, tokenizer, tokens="last_hidden_state", dtype=torch.float32)
    store = compute_features(encode, questions, cache_dir=tmp_path, key=key, batch_size=32, progress=False)
    some = rows[:5] + rows[-3:]
    features, mask = store.batch(some)
    with torch.no_grad():
        expected, expected_mask = encode([questions[row] for row in some])
    assert torch.equal(mask, expected_mask)
    torch.testing.assert_close(features, expected * expected_mask[..., None], rtol=0, atol=1e-5)
