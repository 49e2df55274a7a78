"""Parts of the suite `alignment`: each a function of the cell's choices that returns plain data."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otmerge_hf.alignment import (
    CCA,
    Alignment,
    Procrustes,
    Ridge,
    SinkhornProcrustes,
    WassersteinProcrustes,
    preflight,
    pseudo_pairs,
)
from otmerge_hf.metrics import foscttm, retrieval

from ..runner.cell import Place
from ..runner.machine import memory_mib, peak_memory_mib
from ..runner.records import Records
from ..tasks import emoji
from . import alignment_training


SIZES = [96, 160, 224]
Choices = Mapping[str, Any]
Features = dict[str, Tensor]  # by split, (N, D)


def _load(choices: Choices, place: Place, sizes: list[int]) -> emoji.Emoji:
    return emoji.load(_folder(choices), sizes, place.cache / "emoji")


def _folder(choices: Choices) -> Path | None:
    return Path(choices["emoji"]) if "emoji" in choices else None


# --- closed forms on all training pairs -------------------------------------------------------------------------


def _closed_forms() -> Iterator[Alignment]:
    yield from (Ridge(alpha, target=side) for alpha in (1.0, 10.0) for side in ("query", "context"))
    yield from (Procrustes(width) for width in (128, None))
    yield from (CCA(strength, correlation_weight=w) for strength in (0.3, 1.0, 3.0) for w in (0.0, 0.5, 1.0))


def closed(choices: Choices, place: Place) -> dict[str, Any]:
    """Every closed form on all pairs, by image size, pooling and captions; the best of each kind on validation."""
    data = _load(choices, place, SIZES)
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
    data = _load(choices, place, [224])
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


# --- few pairs, the rest unpaired -------------------------------------------------------------------------------


def _pairs_only() -> Iterator[Alignment]:
    yield from (Ridge(alpha, target=side) for alpha in (1.0, 10.0) for side in ("query", "context"))
    yield from (Procrustes(width) for width in (48, None))
    yield from (CCA(strength, correlation_weight=w) for strength in (1.0, 10.0) for w in (0.5, 1.0))


def _with_unpaired() -> Iterator[Alignment]:
    for base in (Procrustes(), Procrustes(128), CCA(10.0, correlation_weight=0.5)):
        for epsilon in (0.03, 0.1):
            for weight in (0.1, 0.3):
                start = Ridge(10.0, target="context")
                yield SinkhornProcrustes(base, start, epsilon=epsilon, pair_weight=weight, iterations=15)


def few_pairs(choices: Choices, place: Place) -> dict[str, Any]:
    """Pictures against texts, with 50, 100 or 200 pairs and everything else unpaired."""
    data = _load(choices, place, [160])
    images = emoji.standardised({s: data.images[160][s]["mean"][-1] for s in emoji.SPLITS})
    context = emoji.principal(images, 256)
    query = emoji.standardised({s: data.texts[s]["text"][-1] for s in emoji.SPLITS})
    by_pairs = _few_pairs_study([(context, query)] * choices["seeds"], place)
    return {"seeds": choices["seeds"], "train_rows": len(context["train"]), "by_pairs": by_pairs}


def text_text(choices: Choices, place: Place) -> dict[str, Any]:
    """The same with two text encoders, the second behind a random rotation."""
    texts = _load(choices, place, []).texts
    others = emoji.load_minilm_l3(_folder(choices), place.cache / "emoji")
    context = emoji.standardised({s: texts[s]["text"][-1] for s in emoji.SPLITS})
    # Both encoders may share axes by their common origin; behind a random rotation only what is learnt can help.
    turned = [
        emoji.standardised({s: others[s]["text"][-1] @ _rotation(384, seed) for s in emoji.SPLITS})
        for seed in range(choices["seeds"])
    ]
    unmapped = [retrieval(context["test"], query["test"])["mean_recall@1"] for query in turned]
    whole = [
        Procrustes().fit(context["train"], query["train"]).score(context["test"], query["test"]) for query in turned
    ]
    return {
        "seeds": choices["seeds"],
        "train_rows": len(context["train"]),
        "candidates": len(context["test"]),
        "unmapped_test_mean": sum(unmapped) / len(unmapped),
        "all_pairs_test_mean": sum(whole) / len(whole),
        "by_pairs": _few_pairs_study([(context, query) for query in turned], place),
    }


def _rotation(width: int, seed: int) -> Tensor:
    """A rotation or reflection drawn uniformly."""
    generator = torch.Generator().manual_seed(1000 + seed)
    q, r = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return q * r.diagonal().sign()


def _few_pairs_study(sides: list[tuple[Features, Features]], place: Place) -> dict[str, Any]:
    """Scores by number of pairs, then by method; `sides` are the context and the query features of each seed."""
    groups = {"pairs only": list(_pairs_only()), "pairs + unpaired OT": list(_with_unpaired())}
    counts = (50, 100, 200)
    result: dict[str, Any] = {}

    def over_seeds(fit: Alignment, count: int, score: Callable[..., dict], **options: Any) -> dict[str, Any]:
        runs = [score(_fresh(fit), *side, count, seed, **options) for seed, side in enumerate(sides)]
        return {"fit": repr(fit), "runs": runs}

    for done, count in enumerate(counts):
        chosen: dict[str, Any] = {}
        for name, fits in groups.items():
            tried = [over_seeds(fit, count, _few) for fit in fits]
            best = max(range(len(fits)), key=lambda i: sum(run["validation"] for run in tried[i]["runs"]))
            chosen[name] = tried[best]
            if name == "pairs + unpaired OT":
                # The same fit, but the two sides' unpaired rows are different emoji: only the clouds' shape can help.
                chosen["the same, no counterparts"] = over_seeds(fits[best], count, _few, disjoint=True)
            else:
                chosen["pairs only + mutual neighbours as pairs"] = over_seeds(fits[best], count, _self_trained)
        plain = WassersteinProcrustes(restarts=5, iterations=15, batch_size=600)
        chosen["Wasserstein-Procrustes"] = over_seeds(plain, count, _few)
        result[str(count)] = chosen
        place.report_progress((done + 1) / len(counts))
    return result


def _fresh(fit: Alignment) -> Alignment:
    return type(fit)(**fit.get_params())


def _few(fit: Any, context: Features, query: Features, count: int, seed: int, disjoint: bool = False) -> dict:
    x, y, pairs = _few_data(context["train"], query["train"], count, seed, disjoint)
    fit.fit(x, y, pairs)
    return {split: fit.score(context[split], query[split]) for split in ("validation", "test")}


def _self_trained(fit: Any, context: Features, query: Features, count: int, seed: int) -> dict:
    x, y, pairs = _few_data(context["train"], query["train"], count, seed)
    fit.fit(x, y, pairs)
    neighbours, _ = pseudo_pairs(fit, x, y, known=pairs)
    again = _fresh(fit).fit(x, y, torch.cat([pairs, neighbours]))
    return {split: again.score(context[split], query[split]) for split in ("validation", "test")}


def _few_data(x: Tensor, y: Tensor, count: int, seed: int, disjoint: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """`count` pairs first; the rest of each side in its own random order, so that no row number gives a match."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    paired, free = order[:count], order[count:]
    left, right = (free[: len(free) // 2], free[len(free) // 2 :]) if disjoint else (free, free)
    left, right = (rows[torch.randperm(len(rows), generator=generator)] for rows in (left, right))
    pairs = torch.arange(count)[:, None].expand(-1, 2)
    return x[torch.cat([paired, left])], y[torch.cat([paired, right])], pairs


# --- what the encoders share, and the cost of a fit -------------------------------------------------------------


def shared_structure(choices: Choices, place: Place) -> dict[str, Any]:
    """The pre-flight report on real features, and on noise."""
    data = _load(choices, place, [160])
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


MEASURES: dict[str, Callable[[Choices, Place], dict[str, Any]]] = {
    "closed": closed,
    "trained": trained,
    "few_pairs": few_pairs,
    "text_text": text_text,
    "shared": shared_structure,
    "cost": cost,
}
