"""Names of encoders -> folders or Hub names that transformers loads: the one list of encoders that are packages."""

import difflib
from pathlib import Path
from typing import Any

from .efficientnet_lite import COEFFICIENTS
from .packages import convert_efficientnet_lite, convert_minilm_l3, convert_vit_small, minilm_l6_path


_TEXT = {"minilm-l6": minilm_l6_path, "minilm-l3": convert_minilm_l3}
_OF_ONE_SIZE = {"vit-small-14": convert_vit_small, **_TEXT}
IMAGE_ENCODERS = (*COEFFICIENTS, "vit-small-14")
TEXT_ENCODERS = tuple(_TEXT)
# Of their weights, whatever the folder and the size of the images: see `model.sources.weights_digest`.
DIGESTS = {
    "efficientnet-lite0": "0bb0865ac936d14a9be5180f7c083f6578f3ae16a94aa43e69ac2488da42e776",
    "efficientnet-lite1": "e89c129c6900631bb17bd6398d1cd1bdfa50bc65ab5374d1400fb02e4a362289",
    "efficientnet-lite2": "b20cb44b235d160eb72d6ae1625f9be9aa2811f19dbfa017867eeb186e697194",
    "vit-small-14": "2afa11891056be04d29b7200a8a58ca5130fe856a5cb3df77bb69dde6dd207e2",
    "minilm-l6": "7a405073e56b7f653149af29efe03c5b878c5a485c7a0e3cb991ba378efbda9c",
    "minilm-l3": "a2f95faf7b7ecbabcbbb57aade1e2c730cfe3308e323665d503a29b832013e3d",
}


def resolve_encoder(name: str, image_size: int | None = None) -> str:
    """Folder of an encoder that comes as a package; any other name as it is, for `AutoModel.from_pretrained`.

    Args:
        name: One of `IMAGE_ENCODERS` or `TEXT_ENCODERS`, a folder (which comes first), or a name on the Hub.
        image_size: See [`convert_efficientnet_lite`]; only for the EfficientNet-Lites (224 when None).

    Raises:
        ValueError: If `image_size` does not fit, or is given for another encoder.
        ImportError: If the encoder's package is not installed.

    Example:
        >>> resolve_encoder("google/vit-base-patch16-224")
        'google/vit-base-patch16-224'
    """
    packaged = not Path(name).exists()
    if packaged and name in COEFFICIENTS:
        return str(convert_efficientnet_lite(name, image_size=224 if image_size is None else image_size))
    if image_size is not None:
        raise ValueError(f"image_size is for {', '.join(COEFFICIENTS)}; {name!r} brings its own image processor")
    return str(_OF_ONE_SIZE[name]()) if packaged and name in _OF_ONE_SIZE else name


def find_packaged(record: dict[str, Any]) -> str | None:
    """Folder of the packaged encoder with the weights that a record of `model.sources.describe_encoder` tells of.

    So a merge of packaged encoders that was saved without them loads on every machine that has the packages.

    Raises:
        ImportError: If the encoder's package is not installed; the message has the pip command.

    Example:
        >>> find_packaged({"digest": DIGESTS["minilm-l6"]}) == resolve_encoder("minilm-l6")
        True
        >>> find_packaged({"digest": "of other weights"})
    """
    names = {digest: name for name, digest in DIGESTS.items()}
    name = names.get(record["digest"])
    return None if name is None else resolve_encoder(name)


def check_name(name: str) -> None:
    """Refuse, with a ValueError, what is nearly a packaged encoder's name, and no folder or `owner/name` on the Hub.

    Example:
        >>> check_name("google/vit-base-patch16-224"), check_name("bert-base-uncased")
        (None, None)
    """
    known = (*IMAGE_ENCODERS, *TEXT_ENCODERS)
    if name in known or "/" in name or Path(name).exists():
        return
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.7):
        raise ValueError(f"there is no encoder {name!r}; did you mean {near[0]!r}? Packaged ones: {', '.join(known)}")
