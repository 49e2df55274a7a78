"""Captions of other images -> the adapters that a merge starts from, aligned in closed form."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..alignment import AffineMap, align_encoders
from ..data import PairSplit
from ..data.pair_splits import hold_out_again, without_images
from .kept import Kept


logger = logging.getLogger(__name__)
_STAGE = "aligned"


@dataclass(frozen=True)
class AlignedStart:
    """Maps and statistics that an alignment found, by side, and what is to be told of it."""

    maps: dict[str, AffineMap]
    statistics: dict[str, tuple[Tensor, Tensor]]
    report: dict[str, Any]


def leave_out_asked(captions: Mapping[str, PairSplit], asked: Sequence[Any], seed: int = 0) -> dict[str, PairSplit]:
    """Captions without those of images that validation or test ask about; a line says how many there were.

    Where that empties the captions' own validation or test, others are held out.

    Raises:
        ValueError: If too few are left.
    """
    found = {name: without_images(split, asked) for name, split in captions.items()}
    if count := sum(gone for _, gone in found.values()):
        logger.info("Left out the captions of %d images that validation or test ask about.", count)
    return hold_out_again({name: split for name, (split, _) in found.items()}, seed)


def align_start(
    context: str, query: str, captions: Mapping[str, PairSplit], kept: Kept, **options: Any
) -> AlignedStart:
    """Align two encoders on captions, or take what an earlier run kept.

    Args:
        options: Of [`align_encoders`].
        kept: A folder of these encoders, captions and options alone.
    """
    if (found := kept.read(_STAGE)) is None:
        result = align_encoders(context, query, captions, **options)
        base, tensors = result.model, dict[str, Tensor]()
        for side in ("context", "query"):
            linear, standard = getattr(base, f"{side}_adapter").map, getattr(base, f"{side}_standardizer")
            tensors |= {f"{side}.weight": linear.weight.data, f"{side}.bias": linear.bias.data}
            tensors |= {f"{side}.mean": standard.mean, f"{side}.std": standard.std}
        report: dict[str, Any] = {"fit": repr(result.fit), "counts": result.counts | _paired_counts(captions)}
        report |= {"retrieval": result.scores["test"], "validation": result.scores["validation"]}
        report["candidates"] = [candidate._asdict() for candidate in result.candidates[:5]]
        found = {name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(report))
        kept.write(_STAGE, *found)
    tensors, report = found
    sides = ("context", "query")
    maps = {side: AffineMap(tensors[f"{side}.weight"], tensors[f"{side}.bias"]) for side in sides}
    return AlignedStart(maps, {side: (tensors[f"{side}.mean"], tensors[f"{side}.std"]) for side in sides}, report)


def _paired_counts(captions: Mapping[str, PairSplit]) -> dict[str, dict[str, int]]:
    """Counts of what pairs name; inputs of pairs that were left out are still there."""
    return {
        name: {
            "images": len(split.pairs[:, 0].unique()),
            "texts": len(split.pairs[:, 1].unique()),
            "pairs": len(split.pairs),
        }
        for name, split in captions.items()
    }
