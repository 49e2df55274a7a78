"""Parts of the suite `alignment` with few pairs, the rest unpaired: what can unpaired rows add?"""

from collections.abc import Callable, Iterator
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
    pseudo_pairs,
)
from otmerge_hf.metrics import retrieval

from ..runner.cell import Place
from ..tasks import emoji
from .alignment_parts import Choices, Features, cache_of, folder_of, load


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
    data = load(choices, place, [160])
    images = emoji.standardised({s: data.images[160][s]["mean"][-1] for s in emoji.SPLITS})
    context = emoji.principal(images, 256)
    query = emoji.standardised({s: data.texts[s]["text"][-1] for s in emoji.SPLITS})
    by_pairs = _few_pairs_study([(context, query)] * choices["seeds"], place)
    return {"seeds": choices["seeds"], "train_rows": len(context["train"]), "by_pairs": by_pairs}


def text_text(choices: Choices, place: Place) -> dict[str, Any]:
    """The same with two text encoders, the second behind a random rotation."""
    texts = load(choices, place, []).texts
    others = emoji.load_minilm_l3(folder_of(choices), cache_of(choices, place))
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
