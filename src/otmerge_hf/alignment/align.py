"""Two encoders and image-caption pairs in, a merge that retrieves out, without a gradient step."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..features import FeatureStore, embed, mean_features
from ..metrics.retrieval import retrieval
from ..model.modality import SIDES
from ..model.modeling_otmerge import OTMergeModel
from .base import Alignment, unpaired_rows
from .choice import NEED_UNPAIRED, UNPAIRED_FITS, Candidate, check_choice, check_fit_name, choose_and_refit, choose_fit
from .encoder_pair import EncoderPair, TokenChoice
from .gaussian_monge import GaussianMonge
from .preflight import PreflightReport, preflight
from .recommendations import FitName, recommend
from .result import AlignmentResult
from .sinkhorn_procrustes import SinkhornProcrustes
from .wasserstein_procrustes import WassersteinProcrustes


if TYPE_CHECKING:  # its module imports `datasets`, which reading the rows needs and aligning does not
    from ..data.pair_splits import PairSplit

SPLITS = ("train", "validation", "test")
READ_UNPAIRED = (SinkhornProcrustes.__name__, WassersteinProcrustes.__name__, GaussianMonge.__name__)
Stores = dict[str, dict[TokenChoice, dict[str, FeatureStore]]]


def align_encoders(
    context: str,
    query: str,
    splits: "Mapping[str, PairSplit]",
    *,
    unpaired_images: Sequence[Any] = (),
    unpaired_texts: Sequence[str] = (),
    context_tokens: Sequence[TokenChoice] = ("last_hidden_state",),
    query_tokens: Sequence[TokenChoice] = ("last_hidden_state",),
    image_size: int | None = None,
    fit: FitName = "auto",
    shared_dim: int | None = None,
    refit: bool = True,
    cache_dir: str | os.PathLike = "runs/features",
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    refine: Callable[..., Any] | None = None,
) -> AlignmentResult:
    """Encode every input once, say what the encoders share, and put the best fit into a merge.

    The steps: features of both sides; a pre-flight report on the training pairs; fits on the training rows, the best
    on the validation pairs, which also chooses among several tokens; that fit again on training and validation rows
    together; the merge with it in linear adapters, scored on the test pairs.

    Args:
        context: Encoder of images: `efficientnet-lite0` or a sibling, a folder, or a name on the Hub; or of sounds.
        query: Text encoder: `minilm-l6`, `minilm-l3`, a folder, or a name on the Hub.
        splits: `train`, `validation` and `test`, from [`load_pair_splits`] or made by hand.
        unpaired_images: Further images without a caption, for the fits that use them.
        unpaired_texts: Further texts without an image.
        context_tokens: `last_hidden_state`, `cls`, `pooled`, a hidden layer's index or several joined, `"0+3+6"`; of
            several choices validation chooses.
        query_tokens: Likewise.
        image_size: Pixels, a multiple of 32, for the `efficientnet-lite` encoders; 224 when None.
        fit: See [`choose_fit`].
        shared_dim: Width of the shared space; chosen on validation when None.
        refit: Whether to fit again on training and validation rows after the choice.
        cache_dir: Folder where features are kept.
        batch_size: Inputs per forward of an encoder; by default as many as are fast, see [`features.encode`].
        device: Where the encoders run; fits are made on the CPU.
        seed: Of the pre-flight check.
        refine: Trains the merge on from the fit; [`training.refine_alignment`] with an `output_dir` is one. On the
            training rows, and if validation gained and `refit` is asked for, as long again on both splits' rows,
            from their fit.

    Returns:
        An [`AlignmentResult`]: `print` it, `save` it.

    Raises:
        ValueError: If an encoder, a split or a choice does not fit; if unpaired rows are given to a fit that cannot
            use them, or are not given to one that needs them.
        OSError: If an encoder is not found.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from otmerge_hf.data import PairSplit  # load_pair_splits reads them from a folder, files or the Hub
        >>> colors, pairs = ["red", "green", "blue"], torch.arange(3)[:, None].expand(-1, 2)
        >>> split = PairSplit([Image.new("RGB", (32, 32), color) for color in colors], colors, pairs)
        >>> splits, options = dict.fromkeys(["train", "validation", "test"], split), {"image_size": 32, "fit": "ridge"}
        >>> result = align_encoders("efficientnet-lite0", "minilm-l6", splits, cache_dir=tempfile.mkdtemp(), **options)
        >>> result.model.config.shared_dim == result.fit.shared_dim_
        True
    """
    _check_rows(splits, fit, len(unpaired_images), len(unpaired_texts))
    encoders = EncoderPair(context, query, {"context": context_tokens, "query": query_tokens}, image_size)
    encoders.check_kind(splits["train"].kind, "pairs")
    check_choice(fit, shared_dim, *(max(encoders.widths(side)) for side in SIDES))

    started = time.perf_counter()
    inputs: dict[str, dict[str, Sequence[Any]]] = {
        "context": {name: splits[name].images for name in SPLITS},
        "query": {name: splits[name].texts for name in SPLITS},
    }
    for side, extra in zip(SIDES, (unpaired_images, unpaired_texts), strict=True):
        if len(extra):
            inputs[side]["unpaired"] = extra
    options: dict[str, Any] = {"cache_dir": cache_dir, "batch_size": batch_size, "device": device}
    stores: Stores = {
        side: {choice: encoders.encode(side, choice, inputs[side], **options) for choice in encoders.tokens[side]}
        for side in SIDES
    }
    seconds = {"features": time.perf_counter() - started}

    tokens, report, notes = _choose_tokens(stores, splits["train"].pairs, seed)
    started = time.perf_counter()
    if any(len(choices) > 1 for choices in stores.values()):
        tokens, told = _compare_tokens(encoders, stores, tokens, splits, fit, shared_dim)
        notes.append(told)
    chosen, statistics, means = _prepare(encoders, stores, tokens)
    train, validation = _rows(means, splits, ["train"]), _rows(means, splits, ["validation"], unpaired=False)
    if refit:
        both = partial(_rows, means, splits, ["train", "validation"])
        choice, refitted = choose_and_refit(train, validation, both, kind=fit, shared_dim=shared_dim)
    else:
        choice = choose_fit(train, validation, kind=fit, shared_dim=shared_dim)
        refitted = choice.fit
    best: Alignment = choice.fit
    before = retrieval(best.transform_context(validation[0]), best.transform_query(validation[1]), validation[2])
    best = refitted
    seconds["fit"] = time.perf_counter() - started
    notes += _unused_rows(choice.candidates, splits["train"], len(unpaired_images), len(unpaired_texts))

    model = encoders.build(tokens, best.shared_dim_)
    model.fit_standardization(**statistics)
    model.load_alignment(best, standardized=True)
    scores = {"validation": before, "test": _test(model, chosen, splits)}
    refinement = None
    if refine is not None:
        started = time.perf_counter()
        refinement = _refine(refine, model, choice.fit, best if refit else None, chosen, splits)
        seconds["refine"] = time.perf_counter() - started
        scores |= {"closed_form_test": scores["test"], "test": _test(model, chosen, splits)}
    return AlignmentResult(
        model=model,
        processor=encoders.processor,
        fit=best,
        refitted=refit,
        candidates=choice.candidates,
        tokens=tokens,
        preflight=report,
        notes=notes,
        scores=scores,
        counts=_counts(splits, len(unpaired_images), len(unpaired_texts)),
        seconds=seconds,
        encoders={"context": str(context), "query": str(query)},
        refinement=refinement,
        settings={
            **{"fit": fit, "shared_dim": shared_dim, "image_size": image_size, "refit": refit, "seed": seed},
            "data": dict(splits["train"].source),
        },
    )


def _test(
    model: OTMergeModel, stores: dict[str, dict[str, FeatureStore]], splits: "Mapping[str, PairSplit]"
) -> dict[str, float]:
    images, texts = (embed(model, stores[side]["test"], side) for side in SIDES)
    return retrieval(images, texts, splits["test"].pairs)


def _refine(
    refine: Callable[..., Any],
    model: OTMergeModel,
    fit: Alignment,
    refitted: Alignment | None,
    stores: dict[str, dict[str, FeatureStore]],
    splits: "Mapping[str, PairSplit]",
) -> Any:
    """Train on from the training rows' fit; where that gained, as long again from the fit of validation's rows too."""
    means = {side: {name: mean_features(store) for name, store in stores[side].items()} for side in SIDES}
    train, validation = (_rows(means, splits, [name], unpaired=False) for name in ("train", "validation"))
    model.load_alignment(fit, standardized=True)
    made = refine(model, train, validation)
    if refitted is not None:
        model.load_alignment(refitted, standardized=True)
        if made.steps:
            refine(model, _rows(means, splits, ["train", "validation"], unpaired=False), None, steps=made.steps)
    return made


def _check_rows(splits: "Mapping[str, PairSplit]", fit: str, images: int, texts: int) -> None:
    """Refuse missing splits, an unknown fit, and rows that do not suit it, before anything is encoded."""
    if missing := [name for name in SPLITS if name not in splits]:
        raise ValueError(f"splits must have {', '.join(SPLITS)}; {', '.join(missing)} is missing")
    check_fit_name(fit, unpaired_images=images, unpaired_texts=texts)
    train = splits["train"]
    free = unpaired_rows(train.pairs, len(train.images), len(train.texts))
    for name, rows, count in zip(("unpaired_images", "unpaired_texts"), free, (images, texts), strict=True):
        if fit in NEED_UNPAIRED and len(rows) + count == 0:
            raise ValueError(f"fit {fit!r} needs unpaired rows on both sides; {name} is empty")


def _unused_rows(candidates: list[Candidate], train: "PairSplit", images: int, texts: int) -> list[str]:
    """What to know where unpaired rows were given and no fit that was tried looks at them."""
    if not (images or texts) or any(candidate.fit.startswith(READ_UNPAIRED) for candidate in candidates):
        return []
    free = unpaired_rows(train.pairs, len(train.images) + images, len(train.texts) + texts)
    pairs, least = len(train.pairs.unique(dim=0)), min(len(rows) for rows in free)
    return [
        f"The unpaired rows ({images:,} images, {texts:,} texts) were encoded and no fit used them: for "
        f"{pairs:,} pairs and at least {least:,} unpaired rows a side the recommended fit is "
        f"{recommend(pairs, least).fit}. A fit that uses them can be asked for: {', '.join(UNPAIRED_FITS)}."
    ]


def _prepare(
    encoders: EncoderPair, stores: Stores, tokens: dict[str, TokenChoice]
) -> tuple[dict[str, dict[str, FeatureStore]], dict[str, tuple[Tensor, Tensor]], dict[str, dict[str, Tensor]]]:
    """Of a choice of tokens: the features, their statistics on the training rows, and standardised means."""
    chosen = {side: stores[side][tokens[side]] for side in SIDES}
    statistics = {side: chosen[side]["train"].statistics() for side in SIDES}
    probe = encoders.probe(tokens).cpu()
    probe.fit_standardization(**statistics)
    return chosen, statistics, {side: _standardised_means(probe, side, chosen[side]) for side in SIDES}


def _compare_tokens(
    encoders: EncoderPair,
    stores: Stores,
    first: dict[str, TokenChoice],
    splits: "Mapping[str, PairSplit]",
    fit: FitName,
    shared_dim: int | None,
) -> tuple[dict[str, TokenChoice], str]:
    """The tokens whose best fit retrieves best on validation; of equally good ones `first`. And what each reached."""
    reached: dict[str, tuple[float, float]] = {}
    best, most = first, (-1.0, 0.0)
    combinations = [dict(zip(SIDES, each, strict=True)) for each in product(*(stores[side] for side in SIDES))]
    for tokens in sorted(combinations, key=lambda each: each != first):
        means = _prepare(encoders, stores, tokens)[2]
        train, validation = _rows(means, splits, ["train"]), _rows(means, splits, ["validation"], unpaired=False)
        try:
            check_choice(fit, shared_dim, train[0].shape[1], train[1].shape[1])
        except ValueError:  # too narrow for the width that is asked for, which others have
            continue
        found = choose_fit(train, validation, kind=fit, shared_dim=shared_dim).candidates[0]
        name = ", ".join(f"{side} {tokens[side]}" for side in SIDES)
        reached[name] = scores = (found.recall, found.mean_average_precision)
        if scores > most:
            best, most = tokens, scores
    listed = sorted(reached.items(), key=lambda each: each[1], reverse=True)
    return best, "Layers by the best fit's Recall@1 on validation: " + "; ".join(
        f"{name} {scores[0]:.4f}" for name, scores in listed
    )


def _choose_tokens(
    stores: Stores, pairs: Tensor, seed: int
) -> tuple[dict[str, TokenChoice], PreflightReport | None, list[str]]:
    """Say what the encoders share, and which tokens share most; and what to know of it."""
    tokens = {side: next(iter(choices)) for side, choices in stores.items()}
    context, query = (
        {
            str(choice): torch.cat([mean_features(named[name]) for name in ("train", "unpaired") if name in named])
            for choice, named in stores[side].items()
        }
        for side in SIDES
    )
    try:
        report = preflight(context, query, pairs, seed=seed)
    except ValueError as error:
        return tokens, None, [f"No pre-flight check: {error}"]
    best = {"context": report.best.context_layer, "query": report.best.query_layer}
    found = {side: next(choice for choice in stores[side] if str(choice) == best[side]) for side in SIDES}
    return found, report, []


@torch.no_grad()
def _standardised_means(model: OTMergeModel, side: str, stores: dict[str, FeatureStore]) -> dict[str, Tensor]:
    """Mean features (N, D_side) as the adapter will see them: an affine map of tokens commutes with their mean."""
    standardizer: torch.nn.Module = getattr(model, f"{side}_standardizer")
    return {name: standardizer(mean_features(store)) for name, store in stores.items()}


def _rows(
    means: dict[str, dict[str, Tensor]], splits: "Mapping[str, PairSplit]", names: list[str], unpaired: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of both sides and pairs (P, 2) of some splits as one, with the unpaired rows behind them."""
    pairs, start = [], torch.zeros(2, dtype=torch.long)
    for name in names:
        pairs.append(splits[name].pairs + start)
        start = start + torch.tensor([len(means[side][name]) for side in SIDES])
    used = [*names, "unpaired"] if unpaired else names
    context, query = (torch.cat([means[side][name] for name in used if name in means[side]]) for side in SIDES)
    return context, query, torch.cat(pairs)


def _counts(splits: "Mapping[str, PairSplit]", images: int, texts: int) -> dict[str, dict[str, int]]:
    counts = {
        name: {"images": len(splits[name].images), "texts": len(splits[name].texts), "pairs": len(splits[name].pairs)}
        for name in SPLITS
    }
    return counts | ({"unpaired": {"images": images, "texts": texts, "pairs": 0}} if images or texts else {})
