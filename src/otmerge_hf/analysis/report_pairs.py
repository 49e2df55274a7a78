"""Images with captions -> how the sides lie, what they retrieve, which layers are alike: parts of a report's page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.pair_splits import PairSplit
from ..features import FeatureStore, embed, mean_features
from ..hub.facts import Table
from ..metrics.geometry import modality_gap
from ..metrics.retrieval import retrieval
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeModel
from ..model.processing_otmerge import OTMergeProcessor
from .figures import draw_gaps, draw_layers, draw_recalls
from .layers import layer_similarity
from .page import Picture


MOST_PAIRS = 200  # whose layers are compared
_KS = (1, 2, 5, 10, 20, 50, 100)
_DIRECTIONS = {"image to text": "context_to_query", "text to image": "query_to_context"}
_NO_PAIRS = "no images with captions; give `pairs`."


def about_gap(
    base: OTMergeModel, stores: Mapping[str, FeatureStore], pairs: PairSplit | None, missing: list[str]
) -> tuple[Any, ...]:
    """Modality gap of the frozen features, of the standardised ones, and in the shared space."""
    if pairs is None:
        missing.append(f"Modality gap: {_NO_PAIRS}")
        return ()
    raw = [mean_features(stores[side]) for side in SIDES]
    gaps = {"frozen features": gap_without_common_axes(*raw)}
    if base.config.standardize:
        with torch.no_grad():
            scaled = [
                getattr(base, f"{side}_standardizer")(x.to(base.device)) for side, x in zip(SIDES, raw, strict=True)
            ]
        gaps["standardised"] = gap_without_common_axes(*scaled)
    context, query = (embed(base, stores[side], side).float().cpu() for side in SIDES)
    gaps["shared space"] = modality_gap(context, query)
    told = ", ".join(f"{name} {gap:.3f}" for name, gap in gaps.items())
    count = min(300, len(context)), min(300, len(query))
    alt = (
        f"Bars of the modality gap: {told}. Below, {count[0]} images as filled circles and {count[1]} texts as open "
        "triangles on the shared space's two first principal axes."
    )
    rows = tuple((name, f"{gap:.4f}") for name, gap in gaps.items())
    return (
        "The modality gap is the distance between the two sides' centres on the unit sphere, from 0 to 2. Before "
        "alignment the encoders have no space in common: there each stands on axes of its own. A small gap is no "
        "proof of alignment, for two clouds may overlap and be shuffled; retrieval tells.",
        Table("Modality gap, before and after", ("", "gap"), rows),
        Picture("gap.png", draw_gaps(gaps, context, query), alt, "Modality gap, and both sides in the shared space"),
    )


def gap_without_common_axes(context: Tensor, query: Tensor) -> float:
    """Modality gap of (N, D_x) and (M, D_y), each on axes of its own: what random orthogonal frames give on average.

    Example:
        >>> gap_without_common_axes(torch.tensor([[3.0]]), torch.tensor([[0.0, 4.0]])) ** 2
        2.0000000000000004
    """
    pad = torch.nn.functional.pad
    return modality_gap(pad(context, (0, query.shape[1])), pad(query, (context.shape[1], 0)))


def about_retrieval(
    base: OTMergeModel, stores: Mapping[str, FeatureStore], pairs: PairSplit | None, missing: list[str]
) -> tuple[Any, ...]:
    """Recall at every depth in both directions, beside guessing."""
    if pairs is None:
        missing.append(f"Retrieval curve: {_NO_PAIRS}")
        return ()
    sizes = len(pairs.images), len(pairs.texts)
    ks = [k for k in _KS if k <= max(sizes)]
    images, texts = (embed(base, stores[side], side) for side in SIDES)
    found = retrieval(images, texts, pairs.pairs, ks=ks)
    recalls = {name: [found[f"{key}_recall@{k}"] for k in ks] for name, key in _DIRECTIONS.items()}
    owners = pairs.pairs.unique(dim=0)
    chance = [guessing(owners[:, 0].tolist(), sizes[1], ks), guessing(owners[:, 1].tolist(), sizes[0], ks)]
    head = ("k", "image to text", "guessing", "text to image", "guessing")
    columns = zip(recalls["image to text"], chance[0], recalls["text to image"], chance[1], strict=True)
    rows = tuple((str(k), *(f"{value:.4f}" for value in values)) for k, values in zip(ks, columns, strict=True))
    ranks = ", ".join(f"{name} {found[f'{key}_median_rank']:g}" for name, key in _DIRECTIONS.items())
    told = "; ".join(f"{name} from {values[0]:.3f} to {values[-1]:.3f}" for name, values in recalls.items())
    higher = [max(pair) for pair in zip(*chance, strict=True)]
    alt = f"Recall from k = {ks[0]} to {ks[-1]}: {told}; guessing from {higher[0]:.3f} to {higher[-1]:.3f}."
    return (
        f"Every image searches among {sizes[1]:,} texts, every text among {sizes[0]:,} images, by cosine in the "
        f"shared space. Recall@k is the share whose own is among the first k. Median ranks: {ranks}.",
        Picture(
            "retrieval.png",
            draw_recalls(ks, recalls, higher),
            alt,
            "Retrieval curve; guessing in the easier direction",
        ),
        Table(f"Recall@k, on {pairs}", head, rows),
    )


def guessing(owners: Sequence[int], candidates: int, ks: Sequence[int]) -> list[float]:
    """Recall@k of a random order of the candidates, for rows that have as many matches as they occur in `owners`.

    Example:
        >>> guessing([0, 1, 1], candidates=4, ks=[1, 2])
        [0.375, 0.6666666666666667]
    """
    counts = Counter(Counter(owners).values()).items()  # matches -> rows with so many
    rows = sum(count for _, count in counts)

    def found(k: int) -> float:
        missed = sum(n * math.comb(candidates - m, k) / math.comb(candidates, k) for m, n in counts)
        return 1 - missed / rows

    return [found(min(k, candidates)) for k in ks]


def about_layers(
    base: OTMergeModel, processor: OTMergeProcessor, pairs: PairSplit | None, missing: list[str]
) -> tuple[Any, ...]:
    """Similarity of every pair of layers of the frozen encoders."""
    if pairs is None:
        missing.append(f"Layer-by-layer similarity: {_NO_PAIRS}")
        return ()
    first = {image: text for image, text in reversed(pairs.pairs.tolist())}
    rows = sorted(first.items())[:MOST_PAIRS]
    if len(rows) < 4:
        missing.append(f"Layer-by-layer similarity: {len(rows)} images with captions are too few; 4 are the least.")
        return ()
    images = [pairs.images[image] for image, _ in rows]
    cka, shuffled = layer_similarity(base, processor, images, [pairs.texts[text] for _, text in rows])
    context, query = divmod(int(cka.nan_to_num(-1).argmax()), cka.shape[1])
    best = f"context layer {context} and query layer {query}, {cka[context, query]:.3f}"
    alt = f"Heat map of {cka.shape[0]} context layers by {cka.shape[1]} query layers. Largest: {best}."
    head = ("", *(f"query {place}" for place in range(cka.shape[1])))
    lines = tuple((f"context {row}", *(f"{value:.3f}" for value in values)) for row, values in enumerate(cka.tolist()))
    return (
        f"Debiased linear CKA of the frozen encoders' layers on {len(rows)} images, each with one caption: 1 for the "
        f"same shape, about 0 for unrelated ones. Shuffled pairs reach {shuffled:.3f} at most. Layer 0 is the "
        f"embeddings. Largest: {best}.",
        Picture("layers.png", draw_layers(cka), alt, "How alike the encoders' layers are"),
        Table("Debiased CKA of every pair of layers", head, lines),
    )
