"""Parts of the suite `alignment` on all pairs: each a function of the cell's choices that returns plain data."""

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otmerge_hf.alignment import CCA, Alignment, Procrustes, Ridge, preflight
from otmerge_hf.metrics import foscttm, retrieval

from ..runner.cell import Place, key_of
from ..runner.machine import memory_mib, peak_memory_mib
from ..runner.records import Records
from ..tasks import emoji
from . import alignment_training


SIZES = [96, 160, 224]
Choices = Mapping[str, Any]
Features = dict[str, Tensor]  # by split, (N, D)


def load(choices: Choices, place: Place, sizes: list[int]) -> emoji.Emoji:
    """Features of the emoji at these image sizes."""
    return emoji.load(folder_of(choices), sizes, cache_of(choices, place))


def cache_of(choices: Choices, place: Place) -> Path:
    """A folder for the features of each set of emoji: those of another would be taken for these."""
    folder = folder_of(choices)
    return place.cache / ("emoji" if folder is None else f"emoji-{key_of({'emoji': str(folder.resolve())})}")


def folder_of(choices: Choices) -> Path | None:
    """The imagefolder that was named; None for the one made from npm packages."""
    return Path(choices["emoji"]) if "emoji" in choices else None


# --- closed forms on all training pairs -------------------------------------------------------------------------


def _closed_forms() -> Iterator[Alignment]:
    yield from (Ridge(alpha, target=side) for alpha in (1.0, 10.0) for side in ("query", "context"))
    yield from (Procrustes(width) for width in (128, None))
    yield from (CCA(strength, correlation_weight=w) for strength in (0.3, 1.0, 3.0) for w in (0.0, 0.5, 1.0))


def closed(choices: Choices, place: Place) -> dict[str, Any]:
    """Every closed form on all pairs, by image size, pooling and captions; the best of each kind on validation."""
    data = load(choices, place, SIZES)
    rows: list[dict] = []
    started = time.perf_counter()
    grid = [(size, pooling, captions) for size in SIZES for pooling in ("mean", "max") for captions in (1, 3)]
    for place_in_grid, (size, pooling, captions) in enumerate(grid):
        images = emoji.standardised({s: data.images[size][s][pooling][-1] for s in emoji.SPLITS})
        rows += _closed_rows(images, data.texts, emoji.VIEWS[:captions], {"image_size": size, "pooling": pooling})
        place.report_progress((place_in_grid + 1) / len(grid))
    return {
        "candidates": len(data.texts["test"]["text"][-1]),
        "train_pairs": len(data.texts["train"]["text"][-1]),
        "feature_seconds": data.seconds,
        "fits_tried": len(rows),
        "seconds_all_fits": time.perf_counter() - started,
        "by_family": {family: _best(rows, family=family) for family in ("Ridge", "Procrustes", "CCA")},
        "by_pooling": {pooling: _best(rows, pooling=pooling) for pooling in ("mean", "max")},
        "by_captions": {str(n): _best(rows, captions=n) for n in (1, 3)},
        "winner": _best(rows),
    }


def _closed_rows(images: Features, texts: Any, captions: Sequence[str], about: dict[str, Any]) -> list[dict]:
    train = [texts["train"][view][-1] for view in captions]
    views = {"train": torch.cat(train)} | {split: texts[split]["text"][-1] for split in ("validation", "test")}
    query = emoji.standardised(views)
    count = len(images["train"])
    # Several captions of one picture are several pairs with the same context row.
    pairs = torch.stack([torch.arange(count).repeat(len(captions)), torch.arange(count * len(captions))], dim=1)
    rows = []
    for fit in _closed_forms():
        start = time.perf_counter()
        fit.fit(images["train"], query["train"], pairs)
        seconds = time.perf_counter() - start
        measured = {
            split: retrieval(fit.transform_context(images[split]), fit.transform_query(query[split]))
            for split in ("validation", "test")
        }
        gap = foscttm(fit.transform_context(images["test"]), fit.transform_query(query["test"]), similarity="cosine")
        rows.append(
            about
            | {"family": type(fit).__name__, "fit": repr(fit), "captions": len(captions), "seconds": seconds}
            | {"validation": measured["validation"]["mean_recall@1"], "test": measured["test"] | {"foscttm": gap}}
        )
    return rows


def _best(rows: list[dict], **where: Any) -> dict:
    """The row with the best validation score; the test score is never looked at."""
    chosen = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return max(chosen, key=lambda row: row["validation"])


# --- trained heads ----------------------------------------------------------------------------------------------

# What a head looks at, at 224 px, and the share of features dropped (more where there are more).
TRAINED_FEATURES = {"mean": (("mean",), 0.5), "mean and max": (("mean", "max"), 0.7)}


def trained(choices: Choices, place: Place) -> dict[str, Any]:
    """Linear heads trained by each sum of losses, three seeds, beside the best closed forms of their features.

    Raises:
        ValueError: If the part `closed` has not been run.
    """
    records = Records(place.results / "cells.jsonl").read().values()
    wanted = dict(choices) | {"part": "closed"}
    known = [r for r in records if {name: r["settings"].get(name) for name in wanted} == wanted]
    if not known:
        raise ValueError("The trained heads are compared with the best closed form; run `--parts closed` first.")
    data = load(choices, place, [224])
    views = [data.texts["train"][view][-1] for view in emoji.VIEWS]
    asked = {split: data.texts[split]["text"][-1] for split in ("validation", "test")}
    texts = emoji.standardised({"train": torch.cat(views)} | asked)
    rows, closed_rows = [], []
    for name, (poolings, dropout) in TRAINED_FEATURES.items():
        maps = data.images[224]
        images = emoji.standardised(
            {s: torch.cat([maps[s][pooling][-1] for pooling in poolings], dim=1) for s in emoji.SPLITS}
        )
        forms = []
        for views_used in (("text",), emoji.VIEWS):
            forms += _closed_rows(images, data.texts, views_used, {"features": name})
        closed_rows.append(_best(forms))
        for loss, terms in alignment_training.LOSSES.items():
            captions = list(texts["train"].chunk(len(views)))
            runs = [
                alignment_training.train(images, captions, texts, terms, seed, dropout=dropout) for seed in range(3)
            ]
            scores = torch.tensor([[run[split] for split in ("validation", "test")] for run in runs]).mean(0).tolist()
            row = {"features": name, "loss": loss, "runs": runs, "start": runs[0]["start"]["test"]}
            rows.append(row | {"validation": scores[0], "test": scores[1]})
            place.report_progress(len(rows) / (len(TRAINED_FEATURES) * len(alignment_training.LOSSES)))
    return {"rows": rows, "closed": [_form(row) for row in [known[0]["winner"], *closed_rows]]}


def _form(row: dict) -> dict:
    seen = row.get("features") and f"224 px, {row['features']}"
    test = (row["test"]["context_to_query_recall@1"] + row["test"]["query_to_context_recall@1"]) / 2
    return {"fit": row["fit"], "validation": row["validation"], "test": test} | {
        "features": seen or f"{row['image_size']} px, {row['pooling']}"
    }


# --- what the encoders share, and the cost of a fit -------------------------------------------------------------


def shared_structure(choices: Choices, place: Place) -> dict[str, Any]:
    """The pre-flight report on real features, and on noise."""
    data = load(choices, place, [160])
    depth = len(data.images[160]["train"]["mean"])
    images = {f"map {i}": data.images[160]["train"]["mean"][i] for i in (1, 6, 11, depth - 2, depth - 1)}
    texts = {f"hidden {i}": data.texts["train"]["text"][i] for i in (0, 3, 6)}
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(texts["hidden 0"]), 384, generator=generator)
    return {
        "emoji": str(preflight(images, texts, max_pairs=500)),
        "against noise": str(preflight(images, {"noise": noise}, max_pairs=500)),
    }


def cost(choices: Choices, place: Place) -> dict[str, Any]:
    """Seconds and memory of each closed form at 100,000 rows, each in a process of its own."""
    rows = []
    for name in ("Procrustes", "CCA", "Ridge"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(_cost_of, (name,)))
        place.report_progress(len(rows) / 3)
    return {"rows": rows}


def _cost_of(name: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    before = memory_mib()
    x, y = torch.randn(100_000, 1024, generator=generator), torch.randn(100_000, 768, generator=generator)
    inputs = (x.nbytes + y.nbytes) / 2**20
    start = time.perf_counter()
    {"Procrustes": Procrustes, "CCA": CCA, "Ridge": Ridge}[name]().fit(x, y)
    seconds = time.perf_counter() - start
    peak = peak_memory_mib() - before
    return {"fit": name, "seconds": seconds, "inputs_mib": inputs, "peak_mib": peak, "ratio": peak / inputs}
