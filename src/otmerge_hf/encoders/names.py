"""Names of encoders -> folders or Hub names that transformers loads: the one list of encoders that are packages."""

from pathlib import Path

from .efficientnet_lite import COEFFICIENTS
from .packages import convert_efficientnet_lite, convert_minilm_l3, minilm_l6_path


IMAGE_ENCODERS = tuple(COEFFICIENTS)
_TEXT = {"minilm-l6": minilm_l6_path, "minilm-l3": convert_minilm_l3}
TEXT_ENCODERS = tuple(_TEXT)


def resolve_encoder(name: str, image_size: int | None = None) -> str:
    """Folder of an encoder that comes as a package; any other name as it is, for `AutoModel.from_pretrained`.

    Args:
        name: One of `IMAGE_ENCODERS` or `TEXT_ENCODERS`, a folder (which comes first), or a name on the Hub.
        image_size: See [`convert_efficientnet_lite`]; only for `IMAGE_ENCODERS` (224 when None).

    Raises:
        ValueError: If `image_size` does not fit, or is given for another encoder.
        ImportError: If the encoder's package is not installed.

    Example:
        >>> resolve_encoder("google/vit-base-patch16-224")
        'google/vit-base-patch16-224'
    """
    packaged = not Path(name).exists()
    if packaged and name in IMAGE_ENCODERS:
        return str(convert_efficientnet_lite(name, image_size=224 if image_size is None else image_size))
    if image_size is not None:
        raise ValueError(f"image_size is for {', '.join(IMAGE_ENCODERS)}; {name!r} brings its own image processor")
    return str(_TEXT[name]()) if packaged and name in _TEXT else name
