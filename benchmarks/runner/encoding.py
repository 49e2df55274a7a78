"""Both frozen encoders run over every input of the easy-VQA suite, once, and what that costs.

Imports no more than encoding needs: its process's memory is a figure of the report.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from otmerge_hf.encoders import convert_efficientnet_lite, convert_minilm_l3, convert_vit_small, minilm_l6_path
from otmerge_hf.features import encode
from otmerge_hf.model.modeling_otmerge import OTMergeForQuestionAnswering
from otmerge_hf.model.processing_otmerge import OTMergeProcessor

from .cell import FORMAT
from .flops import FlopCounter
from .machine import machine, memory_mib, peak_memory_mib
from .measure import silence_transformers
from .recipe import Recipe


ROWS = "questions.json"
_BATCH = 8  # inputs that an encoder sees at once: nearly as fast on a processor as more, in less memory
FEATURE_CHOICES = ("context_encoder", "query_encoder", "image_size", "context_tokens", "query_tokens")


def feature_choices(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that features depend on."""
    return {name: getattr(recipe, name) for name in FEATURE_CHOICES}


def features_key(recipe: Recipe) -> str:
    """Key of the record and name of the folder of the features that a recipe needs."""
    choices = json.dumps(feature_choices(recipe))
    return hashlib.sha256(choices.encode()).hexdigest()[:16]


def encoder_folders(recipe: Recipe) -> tuple[str, str]:
    """Folders of both encoders.

    Raises:
        ValueError: If a name is neither known nor a folder.
        ImportError: If the encoder's package is not installed.
    """
    names = (recipe.context_encoder, recipe.query_encoder)
    folders = []
    for name in names:
        if name.startswith("efficientnet-lite"):
            folders.append(str(convert_efficientnet_lite(name, image_size=recipe.image_size)))
        elif name == "minilm-l6":
            folders.append(str(minilm_l6_path()))
        elif name == "vit-small-14":
            folders.append(str(convert_vit_small()))
        elif name == "minilm-l3":
            folders.append(str(convert_minilm_l3()))
        elif Path(name).is_dir():
            folders.append(name)
        else:
            raise ValueError(f"`{name}` is no encoder that comes as a package, and no folder.")
    return folders[0], folders[1]


def encode_features(recipe: dict[str, Any], folder: str) -> dict[str, Any]:
    """As [`run_features`], from plain data: what a worker calls."""
    silence_transformers()
    return run_features(Recipe(**recipe), Path(folder))


def run_features(recipe: Recipe, cache_dir: Path) -> dict[str, Any]:
    """Run both frozen encoders over every input and say what that cost.

    Args:
        recipe: Encoders, image size, tokens.
        cache_dir: A folder with the rows of [`easy_vqa.write_rows`] and no features, so that nothing is reused.

    Returns:
        Per side: rows, seconds, operations per row, name of the store; and this process's memory, MiB.
    """
    folders = encoder_folders(recipe)
    processor = OTMergeProcessor.from_encoders_pretrained(*folders)
    model = OTMergeForQuestionAnswering.from_encoders_pretrained(
        *folders, context_tokens=recipe.context_tokens, query_tokens=recipe.query_tokens
    )
    rows = json.loads((cache_dir / ROWS).read_text())
    record: dict[str, Any] = {"key": features_key(recipe), "format": FORMAT, "features": feature_choices(recipe)}
    record["machine"] = machine()
    record["start_memory_mib"] = memory_mib()
    for side, given in (("context", [Path(file) for file in rows["images"]]), ("query", rows["texts"])):
        start, start_cpu = time.perf_counter(), time.process_time()
        store = encode(model, processor, side, given, cache_dir=cache_dir, batch_size=_BATCH, progress=False)
        record[side] = {
            "rows": len(given),
            "wall_seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - start_cpu,
            "store": store.folder.name,
        }
        with FlopCounter() as counter:
            encode(model, processor, side, given[:_BATCH], cache_dir=cache_dir / "counted", progress=False)
        record[side]["flops_per_row"] = counter.total / min(_BATCH, len(given))
    return record | {"peak_memory_mib": peak_memory_mib()}
