"""Whisper-base out of two packages: the file's format, and that it hears what its first form hears."""

import shutil
import struct

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from benchmarks.tasks.speech import RATE, Spoken, speak
from benchmarks.tasks.whisper import convert_whisper_base, read_ctranslate2, whisper_parts, whisper_weights


def packed(tensors, aliases=(("decoder/projection/weight", "decoder/embeddings/weight"),)):
    """A `model.bin` as CTranslate2 writes it."""

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, array in tensors.items():
        out += text(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        out += struct.pack("<BI", kinds[str(array.dtype)], array.nbytes) + array.tobytes()
    return out + struct.pack("<I", len(aliases)) + b"".join(text(part) for pair in aliases for part in pair)


def test_stacked_matrices_are_taken_apart():
    stacked = np.arange(12, dtype=np.float16).reshape(6, 2)
    data = packed(
        {
            "encoder/num_heads": np.array(8, np.int16),
            "encoder/layer_3/self_attention/linear_0/weight": stacked,
            "encoder/layer_3/self_attention/linear_0/bias": np.arange(6, dtype=np.float32),
            "decoder/layer_0/attention/linear_1/weight": stacked,
            "decoder/layer_0/ffn/layer_norm/gamma": np.ones(2, np.float32),
            "encoder/position_encodings/encodings": np.ones((4, 2), np.float16),
        }
    )
    found = dict(whisper_weights(data))
    attention = "model.encoder.layers.3.self_attn"
    assert found[f"{attention}.q_proj.weight"].tolist() == [[0, 1], [2, 3]]
    assert found[f"{attention}.v_proj.bias"].tolist() == [4, 5]
    assert f"{attention}.k_proj.bias" not in found
    assert found["model.decoder.layers.0.encoder_attn.v_proj.weight"].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert {"model.decoder.layers.0.final_layer_norm.weight", "model.encoder.embed_positions.weight"} <= set(found)
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


@pytest.mark.parametrize(
    "data", [b"", packed({"a": np.ones(2, np.float32)})[:-3], packed({}) + b"more", packed({}, aliases=())]
)
def test_a_file_that_is_not_whole_is_refused(data):
    with pytest.raises(ValueError, match=r"no whole model.bin|behind the tensors"):
        list(read_ctranslate2(data))


def test_seconds_out_of_range():
    with pytest.raises(ValueError, match="`seconds` is 31; expected 1 to 30"):
        convert_whisper_base(seconds=31)


@pytest.fixture
def parts():
    try:
        return whisper_parts()
    except ImportError:
        pytest.skip("Whisper's packages are not installed")


@pytest.mark.slow
def test_the_encoder_is_ctranslate2s(parts, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    (tmp_path / "model.bin").write_bytes(b"".join(part.read_bytes() for part in parts))
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        shutil.copy(parts[1].with_name(name), tmp_path)
    folder = convert_whisper_base(tmp_path / "whisper")
    noise = np.random.default_rng(0).normal(size=4 * RATE).astype(np.float32) / 10
    features = WhisperFeatureExtractor.from_pretrained(folder)(noise, sampling_rate=RATE, return_tensors="np")
    features = np.ascontiguousarray(features["input_features"])
    theirs = ctranslate2.models.Whisper(str(tmp_path), compute_type="float32").encode(
        ctranslate2.StorageView.from_array(features), to_cpu=True
    )
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    with torch.no_grad():
        ours = model.model.encoder(torch.from_numpy(features)).last_hidden_state
    torch.testing.assert_close(ours, torch.from_numpy(np.array(theirs)), atol=3e-3, rtol=0)


@pytest.mark.slow
def test_it_writes_what_it_hears(parts, tmp_path):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    folder = convert_whisper_base(tmp_path / "whisper", seconds=8)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    heard = WhisperFeatureExtractor.from_pretrained(folder)(
        speak(Spoken("A child is climbing up a set of stairs.", "en-us")), sampling_rate=RATE, return_tensors="pt"
    )
    said = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"])
    with torch.no_grad():
        states = model.model.encoder(heard["input_features"])
        for _ in range(20):
            logits = model(encoder_outputs=states, decoder_input_ids=torch.tensor([said])).logits
            said.append(logits[0, -1].argmax().item())
    words = tokenizer.decode(said, skip_special_tokens=True).lower()
    assert {"child", "climbing", "stairs"} <= set(words.replace(".", " ").split())
