"""Captions of Flickr8k spoken by espeak-ng, and what Whisper's encoder makes of them.

In: the folder of the data sets, and that of [`whisper.convert_whisper_base`]. Out: sentences with their voices, and
pooled hidden states, computed once and kept; a computation that was killed goes on where it was.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import resample_poly
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor, WhisperModel

from .flickr8k import SPLITS, read_photographs


RATE = 16_000  # Hz, Whisper's
SECONDS = 8  # that a clip may last: 97 of 100 captions last no more than 6.4
WORDS_A_MINUTE = 140  # espeak-ng's usual 175 are hard to understand, for people too
SHARD = 50  # clips that are lost at most when a computation is killed
_BATCH = 5
# Accents and speakers of espeak-ng. Those of validation and of the tests speak nowhere else, but for the control.
VOICES = {
    "train": (
        "en-us", "en-gb-x-rp+f3", "en-us+m3", "en-gb-x-rp", "en-us+f2", "en-gb-x-rp+m7", "en-us+m1", "en-gb-x-rp+f1",
    ),
    "validation": ("en-us+m4",),
    "test": ("en-us+f4",),
}  # fmt: skip
TESTED = {"test": "en-us+f4", "accent": "en-gb-scotland+m6", "seen": "en-us"}


class Spoken(NamedTuple):
    """What is said, and by which voice of espeak-ng: `en-us`, with a speaker behind it `en-us+f4`."""

    text: str
    voice: str


def spoken_captions(data: Path, split: str, voices: Sequence[str]) -> list[Spoken]:
    """One caption of each photograph of a split, the first, the second, ... in turn, as are the voices."""
    of_split = [photograph for photograph in read_photographs(data) if photograph.split == split]
    captions = [one.captions[number % len(one.captions)] for number, one in enumerate(of_split)]
    return [Spoken(text, voices[number % len(voices)]) for number, text in enumerate(captions)]


def all_clips(data: Path) -> dict[str, list[Spoken]]:
    """Clips by split; the test sentences once for each voice of [`TESTED`]."""
    train, validation, test = SPLITS
    clips = {split: spoken_captions(data, split, VOICES[split]) for split in (train, validation)}
    return clips | {name: spoken_captions(data, test, [voice]) for name, voice in TESTED.items()}


def speak(clip: Spoken) -> np.ndarray:
    """Waveform (samples,) of a sentence, float32 at 16 kHz.

    Raises:
        FileNotFoundError: If espeak-ng is not installed.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise FileNotFoundError("espeak-ng is not installed: `apt-get install espeak-ng`, say.")
    command = [program, "-v", clip.voice, "-s", str(WORDS_A_MINUTE), "--stdout", "--", clip.text]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(sound[44:], "<i2")  # behind a header of WAV; 22,050 Hz
    return resample_poly(samples.astype(np.float32) / 32768, 320, 441).astype(np.float32)


def encode_clips(
    clips: Sequence[Spoken], encoder: Path, cache: Path, report_progress: Callable[[float], None] = lambda share: None
) -> Tensor:
    """Pooled hidden states (N, layers, 3, 512) of every clip, float16: mean, deviation and maximum of true positions.

    Positions of the silence that a clip is padded with are left out. Linear layers compute in bfloat16, which is two
    and a half times as fast and moves the last layer's means by a fortieth of what tells clips apart.
    """
    made, loaded = [], None
    for start in range(0, len(clips), SHARD):
        some = clips[start : start + SHARD]
        about = json.dumps([encoder.name, "bfloat16", WORDS_A_MINUTE, some])
        file = cache / f"{hashlib.sha256(about.encode()).hexdigest()[:20]}.safetensors"
        if not file.is_file():
            if loaded is None:
                whisper = WhisperModel.from_pretrained(encoder, dtype=torch.float32)
                loaded = whisper.encoder.eval(), WhisperFeatureExtractor.from_pretrained(encoder)
            cache.mkdir(parents=True, exist_ok=True)
            scratch = file.with_suffix(".part")
            save_file({"pooled": _encode(some, *loaded)}, scratch)
            scratch.rename(file)
        made.append(load_file(file)["pooled"])
        report_progress(min(1.0, (start + SHARD) / len(clips)))
    return torch.cat(made)


@torch.inference_mode()
def _encode(clips: Sequence[Spoken], encoder: nn.Module, extractor: WhisperFeatureExtractor) -> Tensor:
    pooled = []
    for place in range(0, len(clips), _BATCH):
        sounds = [speak(clip) for clip in clips[place : place + _BATCH]]
        made = extractor(sounds, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            layers = torch.stack(encoder(made["input_features"], output_hidden_states=True).hidden_states, 1).float()
        for row, frames in zip(layers, made["attention_mask"].sum(1).tolist(), strict=True):
            true = row[:, : (frames + 1) // 2]
            pooled.append(torch.stack([true.mean(1), true.std(1), true.amax(1)], 1).half())
    return torch.stack(pooled)
