"""Images with captions -> what a merge aligns against what it keeps, beside closed forms: parts of a report's page."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..alignment import CCA, Ridge
from ..alignment.base import AffineMap
from ..data.pair_splits import PairSplit
from ..features import FeatureStore, embed, mean_features
from ..hub.facts import Table
from ..metrics.neighbours import normalise
from ..metrics.retrieval import retrieval
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeModel
from .figures import draw_trade_off
from .page import Picture
from .reconstruction import relative_error
from .report_adapters import sample_tokens


FEWEST = 20  # images, and distinct captions
_FEWEST_TOKENS = 40  # of each side and half: with fewer a way back is often worse than the mean
_WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_REGULARIZATION = 0.3
_TOKENS = 2048  # of each side and half, at most
_ROWS = 512  # of a store, whose tokens are drawn from
_EXACT = ("exact", "left-inverse")
_CAPTION = "What is aligned, against what can be had back"
_MORE = "A tenth of the images is held out to test on, unless the pairs have a test split."
_SMALL = 1e-3  # ridge of the way back, relative to the mean variance

Map = Callable[[Tensor], Tensor]


class TradeOff(NamedTuple):
    """One way into a shared space: recall in [0, 1], and by side the share of the features' variance that returns."""

    width: int
    recall: float
    kept: dict[str, float]
    ways: dict[str, str]


def about_trade_off(
    base: OTMergeModel, stores: Mapping[str, FeatureStore], pairs: PairSplit | None, missing: list[str]
) -> tuple[Any, ...]:
    """The merge's own point beside a curve of closed-form fits of the same features at several widths."""
    if pairs is None:
        missing.append("Alignment against preservation: no images with captions; give `pairs`.")
        return ()
    images, texts = (column.unique() for column in pairs.pairs.T)
    if min(len(images), len(texts)) < FEWEST:
        counts = f"{len(images)} images with {len(texts)} distinct captions"
        missing.append(
            f"Alignment against preservation: {counts} to test on are too few; {FEWEST} of each are the least. {_MORE}"
        )
        return ()
    if lack := _lack(base, stores, pairs.pairs):
        missing.append(f"Alignment against preservation: {lack}")
        return ()
    found = trade_offs(base, stores, pairs.pairs)
    own, cut, curve = found["this merge"][0], found["this merge, cut"], found["CCA"]
    best = max(curve, key=lambda point: point.recall)
    told = [f"{name}, {_range(points)}" for name, points in found.items() if points]
    alt = f"Mean recall@1 against the shares of image and of text features that come back. {'; '.join(told)}."
    head = ("map", "mean recall@1", "image features that come back", "text features that come back")
    rows = tuple(
        (f"{name}, {p.width}", f"{p.recall:.4f}", *(f"{p.kept[side]:.3f}, {p.ways[side]}" for side in SIDES))
        for name, points in found.items()
        for p in points
    )
    return (
        "A narrow shared space may align well and lose much of what the encoders say. What comes back is told as the "
        "share of the tokens' variance: 1 is all of it, 0 is as good as the mean, below 0 is worse. The way back is "
        "the adapter's inverse where it has an exact one; else a linear map, fitted afterwards. Cut: this merge with "
        "only those directions of its shared space in which pairs agree most. Beside it a closed form of the same "
        f"features, canonical correlation analysis (`CCA({_REGULARIZATION})`). Closed form, cuts and fitted ways back "
        f"see half of the images, {len(images) - len(images) // 2:,}; recall and what comes back are measured on the "
        "others. A merge that was aligned on more pairs than that should lie above the closed form.",
        f"This merge reaches {own.recall:.3f}, the closed form {best.recall:.3f} at most, with {best.width} numbers. "
        "In a shared space as wide as the wider encoder a fit can keep everything at the recall that it has: "
        "`fit.context_map_.completed(width)`.",
        Picture("trade-off.png", draw_trade_off(own, cut, curve), alt, _CAPTION),
        Table(f"Alignment against preservation by numbers kept, on half of {pairs}", head, rows),
    )


def _lack(base: OTMergeModel, stores: Mapping[str, FeatureStore], pairs: Tensor) -> str:
    """What a half of the images has too little of; "" if nothing."""
    seen, least = _seen(pairs), FEWEST // 2
    for half, name in ((seen, "the maps are fitted on"), (~seen, "is measured")):
        for place, (side, what) in enumerate(zip(SIDES, ("images", "distinct captions"), strict=True)):
            rows = pairs[half, place].unique()
            tokens = sample_tokens(base, side, stores[side], _TOKENS, rows[:_FEWEST_TOKENS]).unique(dim=0)
            if len(rows) < least or len(tokens) < _FEWEST_TOKENS:
                counts = f"{len(rows)} {what} with {len(tokens)} distinct tokens"
                wanted = f"{least} and {_FEWEST_TOKENS} are the least"
                return f"the half that {name} has {counts}; {wanted}. Give more pairs."
    return ""


def _seen(pairs: Tensor) -> Tensor:
    """Mask (P,) of the pairs of every other image."""
    return torch.isin(pairs[:, 0], pairs[:, 0].unique()[::2])


def _range(points: Sequence[TradeOff]) -> str:
    """Of one point its numbers, of several those of the first and of the last."""
    ends = [points[0], points[-1]] if len(points) > 1 else [points[0]]
    told = [f"{p.recall:.3f} at {p.kept['context']:.2f} and {p.kept['query']:.2f} with {p.width}" for p in ends]
    return " to ".join(told) + " numbers"


@torch.no_grad()
def trade_offs(base: OTMergeModel, stores: Mapping[str, FeatureStore], pairs: Tensor) -> dict[str, list[TradeOff]]:
    """The merge, the merge at fewer numbers, and CCA at each width; `pairs` (P, 2) names rows of both stores."""
    seen = _seen(pairs)
    means, tokens, rows, columns = {}, {}, {}, []
    for place, side in enumerate(SIDES):
        standardizer = copy.deepcopy(getattr(base, f"{side}_standardizer")).float().cpu()
        means[side] = standardizer(mean_features(stores[side]).float())
        rows[side], column = pairs[~seen, place].unique(return_inverse=True)
        columns.append(column)
        halves = pairs[seen, place].unique(), rows[side]
        tokens[side] = [sample_tokens(base, side, stores[side], _TOKENS, _spread(half)) for half in halves]
    index = torch.stack(columns, dim=1)

    def measure(shared: Mapping[str, Tensor], maps: Mapping[str, Map], back: Mapping[str, Map]) -> TradeOff:
        images, texts = (shared[side][rows[side]] for side in SIDES)
        recall = retrieval(images, texts, index, ks=())["mean_recall@1"]
        kept = {side: _kept(maps[side], back.get(side), *tokens[side]) for side in SIDES}
        ways = {side: "by the inverse" if side in back else "fitted" for side in SIDES}
        return TradeOff(images.shape[1], recall, kept, ways)

    adapters = {side: copy.deepcopy(getattr(base, f"{side}_adapter")).float().cpu() for side in SIDES}
    own = {side: embed(base, stores[side], side).float().cpu() for side in SIDES}
    exact = {s: adapter.inverse for s, adapter in adapters.items() if adapter.invertibility in _EXACT}
    whole = measure(own, adapters, exact)
    units = [normalise(own[side][pairs[seen, place]]).double() for place, side in enumerate(SIDES)]
    agree = units[0].T @ units[1]
    turn = torch.linalg.eigh(agree + agree.T).eigenvectors.flip(1).float()  # the directions that agree most come first
    few = min(len(fitted) for fitted, _ in tokens.values()) // 4  # with more numbers the way back overfits
    cut, curve = [], []
    for width in (width for width in _WIDTHS if width < min(own["context"].shape[1], few + 1)):
        first = turn[:, :width]
        cuts = {side: _after(adapters[side], first) for side in SIDES}
        cut.append(measure({side: own[side] @ first for side in SIDES}, cuts, {}))
    fit = CCA(_REGULARIZATION).fit(means["context"], means["query"], pairs[seen])
    most = min(fit.shared_dim_, few)
    for width in sorted({*(width for width in _WIDTHS if width < most), most}):
        maps: dict[str, Map] = {side: _first(getattr(fit, f"{side}_map_"), width) for side in SIDES}
        curve.append(measure({side: maps[side](means[side]) for side in SIDES}, maps, {}))
    return {"this merge": [whole], "this merge, cut": cut, "CCA": curve}


def _after(apply: Map, directions: Tensor) -> Map:
    return lambda x: apply(x) @ directions


def _kept(apply: Map, inverse: Map | None, fitted: Tensor, test: Tensor) -> float:
    """Share of the variance of tokens (n, D) that comes back, by the inverse or by a linear map fitted on others."""
    if inverse is None:
        way = Ridge(_SMALL).fit(apply(fitted), fitted)  # to the centred tokens
        again = way.transform_context(apply(test)) + fitted.mean(0)
    else:
        again = inverse(apply(test))
    centre = test.mean(0)
    return 1 - relative_error(again - centre, test - centre) ** 2


def _first(whole: AffineMap, width: int) -> Map:
    return AffineMap(whole.weight[:width], whole.bias[:width]).__call__


def _spread(rows: Tensor) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).long()]
