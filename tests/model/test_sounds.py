"""Sounds from files: what is read equals what was written, at another rate too."""

import struct
import wave

import numpy as np
import pytest
import scipy.signal
import torch
from test_errors import refused
from transformers import pipeline

from otmerge_hf.features import encode, mean_features
from otmerge_hf.model.processing_otmerge import OTMergeAudioProcessor
from otmerge_hf.model.sounds import open_waveform


def tone(rate=16_000, seconds=0.5, hertz=440):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def write(path, samples, rate=16_000, width=2, channels=1):
    """Samples from -1 to 1 as whole numbers of `width` bytes."""
    numbers = np.round(np.asarray(samples) * (256**width / 2 - 1)).astype(np.int64)
    if width == 1:
        numbers = numbers + 128  # one byte has no sign
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<q", number)[:width] for number in numbers))
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_of_a_sample(tmp_path, width):
    found = open_waveform(write(tmp_path / "a.wav", tone(), width=width), 16_000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tone(), atol=2 / 256**width + 1e-6)


def test_bytes_text_and_path_are_the_same_file(tmp_path):
    path = write(tmp_path / "a.wav", tone())
    for item in (str(path), path.read_bytes()):
        assert np.array_equal(open_waveform(item, 16_000), open_waveform(path, 16_000))


def test_channels_are_averaged(tmp_path):
    both = np.stack([tone(), np.zeros_like(tone())], 1).ravel()
    np.testing.assert_allclose(
        open_waveform(write(tmp_path / "a.wav", both, channels=2), 16_000), tone() / 2, atol=1e-4
    )


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_another_rate_is_what_scipy_makes_of_it(tmp_path, rate):
    # of as many samples as leave odd numbers: the two differ in how they split the highest frequency of even ones
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3_019)
    path = write(tmp_path / "a.wav", noise, rate=rate)
    as_it_is = open_waveform(path, rate)
    found = open_waveform(path, 16_000)
    assert len(found) == round(3_019 * 16_000 / rate)
    expected = scipy.signal.resample(as_it_is.astype(float), len(found))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as WAV \\(PCM\\): it is cut short"),
        (b"\x89PNG and no sound", "cannot be read as WAV"),
        (b"RIFF\x00\x00", "cannot be read as WAV"),
    ],
)
def test_what_is_no_sound_is_named(tmp_path, content, words):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.wav.*{words}"):
        open_waveform(path, 16_000)


def test_what_cannot_be_a_sound_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_waveform(tmp_path / "none.wav", 16_000)
    with pytest.raises(ValueError, match="holds 3; expected the samples of a waveform"):
        open_waveform(3)
    with pytest.raises(ValueError, match="expected the sampling rate"):
        open_waveform(write(tmp_path / "a.wav", tone()))
    with pytest.raises(ValueError, match="0 samples"):
        open_waveform(write(tmp_path / "empty.wav", []), 16_000)


@pytest.fixture
def audio_processor(feature_extractor, tokenizer):
    return OTMergeAudioProcessor(feature_extractor("whisper"), tokenizer)


def test_files_and_their_samples_are_one_input(tmp_path, audio_processor, merge):
    paths = [write(tmp_path / f"{hertz}.wav", tone(22_050, hertz=hertz), rate=22_050) for hertz in (220, 440)]
    samples = [open_waveform(path, 16_000) for path in paths]
    by_path = audio_processor(audio=paths, return_tensors="pt")
    by_samples = audio_processor(audio=samples, sampling_rate=16_000, return_tensors="pt")
    mixed = audio_processor(audio=[paths[0], samples[1]], sampling_rate=16_000, return_tensors="pt")
    for other in (by_samples, mixed):
        assert torch.equal(by_path["input_features"], other["input_features"])
    with refused("`sampling_rate` is missing"):
        audio_processor(audio=[paths[0], samples[1]])

    model = merge("whisper")
    stores = [
        encode(model, audio_processor, "context", given, cache_dir=tmp_path / str(rate), sampling_rate=rate)
        for given, rate in ((paths, None), (samples, 16_000))
    ]
    assert torch.equal(*map(mean_features, stores))


def test_the_pipeline_hears(tmp_path, audio_processor, merge):
    path = write(tmp_path / "a.wav", tone(8_000), rate=8_000)
    model = merge("whisper")
    pipe, question = pipeline("otmerge-vqa", model=model, processor=audio_processor), "what color ?"
    inputs = audio_processor(audio=path, text=question, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits[0].softmax(-1).max().item()
    samples = open_waveform(path, 16_000)
    for sound in (path, str(path), path.read_bytes(), samples, samples.tolist()):
        assert pipe(audio=sound, question=question)[0]["score"] == pytest.approx(expected, abs=1e-6)
    assert len(pipe(audio=[path, samples], question=question)) == 2
    assert pipe({"audio": path, "question": question})[0]["score"] == pytest.approx(expected, abs=1e-6)
    with refused("`context` is given; expected `audio` alone"):
        pipe(context="a text", question=question)
    with refused("`audio` is missing; expected a WAV file's path or samples"):
        pipe(question=question)
    with refused("`audio` is an empty list"):
        pipe(audio=[], question=question)
