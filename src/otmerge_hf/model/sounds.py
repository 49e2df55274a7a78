"""Files of sound -> samples: WAV alone, read without a library that the model does not carry."""

import io
import os
import wave
from pathlib import Path
from typing import Any

import torch


_UNREADABLE = (wave.Error, EOFError, OSError)


def is_sound_file(item: Any) -> bool:
    """Whether an item is a path, or a file's bytes, rather than samples."""
    return isinstance(item, (str, os.PathLike, bytes))


def open_waveform(item: Any, sampling_rate: int | None = None) -> Any:
    """Samples of a WAV file as `sampling_rate` asks; samples themselves are taken as they are.

    Channels are averaged; another rate is changed by a Fourier transform, which keeps all that both rates can hold.

    Args:
        item: A path, the bytes of a file, or samples (S,), mono, an array or a list.
        sampling_rate: Hz, that a file is brought to.

    Returns:
        Samples (S,), of a file in float32 from -1 to 1.

    Raises:
        ValueError: If the item is none of these, or the file is no WAV of whole numbers (PCM), or holds no sound.

    Example:
        >>> file = io.BytesIO()
        >>> with wave.open(file, "wb") as sound:
        ...     sound.setparams((1, 2, 8000, 80, "NONE", None))
        ...     sound.writeframes(bytes(2 * 80))
        >>> open_waveform(file.getvalue(), 16000).shape
        (160,)
    """
    if not is_sound_file(item):
        if hasattr(item, "__len__"):
            return item
        raise ValueError(f"`audio` holds {item!r}; expected the samples of a waveform, or a WAV file's path.")
    name = "a file's bytes" if isinstance(item, bytes) else repr(str(item))
    if not isinstance(item, bytes) and not Path(item).is_file():
        raise FileNotFoundError(f"`audio` is {name}; there is no such file.")
    if sampling_rate is None:
        raise ValueError(f"`audio` is {name}, a file; expected the sampling rate to bring it to, too.")
    try:
        with wave.open(io.BytesIO(item) if isinstance(item, bytes) else str(item), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except _UNREADABLE as error:
        raise ValueError(f"`audio` {name} cannot be read as WAV (PCM): {str(error) or 'it is cut short'}.") from error
    samples = _from_bytes(data, width)
    samples = samples[: len(samples) // channels * channels].view(-1, channels).mean(1)
    if not len(samples):
        raise ValueError(f"`audio` {name} holds no sound: it has 0 samples.")
    return resample(samples, rate, sampling_rate).numpy()


def resample(samples: torch.Tensor, rate: int, wanted: int) -> torch.Tensor:
    """Samples (S,) at `rate` Hz -> (round(S * wanted / rate),) at `wanted` Hz, by their Fourier transform."""
    if rate == wanted:
        return samples
    size = max(1, round(len(samples) * wanted / rate))
    spectrum = torch.fft.rfft(samples.double())
    kept = spectrum[: min(len(spectrum), size // 2 + 1)]
    return (torch.fft.irfft(kept, size) * (size / len(samples))).float()


def _from_bytes(data: bytes, width: int) -> torch.Tensor:
    """Whole numbers of `width` bytes, little-endian -> float32 from -1 to 1; those of one byte have no sign."""
    whole = torch.tensor(bytearray(data[: len(data) // width * width]), dtype=torch.uint8)
    octets = whole.view(-1, width)
    if width == 1:
        return (octets[:, 0].float() - 128) / 128
    scale = 256.0 ** torch.arange(width, dtype=torch.float64)
    values = (octets.double() * scale).sum(1)
    limit = 256.0**width / 2
    return (torch.where(values >= limit, values - 2 * limit, values) / limit).float()
