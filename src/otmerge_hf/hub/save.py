"""A merge and what came of it -> its folder, whole: weights, processor, `results.json`, card."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .pictures import FOLDER, find_pictures
from .write import write_card


logger = logging.getLogger(__name__)


def save_merge(folder: str | os.PathLike, model: Any, processor: Any, results: Mapping[str, Any]) -> None:
    """Write model, processor, `results.json` and a model card, `README.md`, unless somebody else wrote one.

    Pictures of a report on other weights, which lay there before, are deleted: the card would show them.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    before = _digests(folder) if (folder / FOLDER).is_dir() else None
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if before is not None and _digests(folder) != before:
        for picture in find_pictures(folder):
            logger.warning("%s is of the merge that was there before: deleted.", folder / picture.path)
            (folder / picture.path).unlink()
    write_card(folder)


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
