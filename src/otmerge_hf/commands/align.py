"""`otmerge align`: two encoders and image-caption pairs in, a merge that retrieves out, without a gradient step."""

import json
import logging
import time
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

import datasets
import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from .. import OTMergeModel
from ..alignment import choose_fit, preflight
from ..alignment.choice import FIT_NAMES
from ..features import FeatureStore, mean_features
from ..metrics import retrieval
from ._encoders import parse_tokens
from ._merge import SIDES, Merge
from ._splits import load_splits


_LISTED = 5


def add_parser(subparsers: _SubParsersAction) -> ArgumentParser:
    """State the command's arguments."""
    parser: ArgumentParser = subparsers.add_parser(
        "align",
        help="merge two encoders by a closed-form fit on image-caption pairs",
        description="Encode every image and caption once, report what the encoders share, fit closed forms on the "
        "training pairs, take the best on validation, save the merge, and score it on test pairs.",
    )
    add = parser.add_argument
    add("--context", required=True, help="image encoder: folder, Hub name, or efficientnet-lite0, -lite1, -lite2")
    add("--query", required=True, help="text encoder: folder, Hub name, or minilm-l6, -l3")
    add("--pairs", required=True, help="image folder with metadata.csv, parquet or json file or folder, or Hub name")
    add("--output", required=True, type=Path, help="folder for the model, its processor and results.json")
    add("--config-name", help="configuration of a Hub data set")
    add("--train-split", help="split, slices such as train[:100] allowed (default: train, else the source's first)")
    for split in ("validation", "test"):
        add(f"--{split}-split", help="likewise (default: the source's own, else a tenth of the training images)")
    add("--image-column", help="column of images (default: found by its type)")
    add("--text-column", help="column of captions (default: found by its name)")
    add("--group-column", help="column equal for captions of one image (default: the image's content)")
    add("--filter", action="append", default=[], metavar="COLUMN!=VALUE", help="keep these rows only; repeatable")
    for side in SIDES:
        add(
            f"--{side}-tokens",
            nargs="+",
            type=parse_tokens,
            default=["last_hidden_state"],
            help="last_hidden_state, cls, pooled or a hidden layer's index; of several the pre-flight check chooses",
        )
    add("--image-size", type=int, help="pixels, a multiple of 32, for the efficientnet-lite encoders (default 224)")
    add("--fit", choices=FIT_NAMES, default="auto", help="closed form; auto tries all (default %(default)s)")
    add("--shared-dim", type=int, help="width of the shared space (default: chosen on validation)")
    add("--cache-dir", type=Path, default=Path("runs/features"), help="where features are kept (default %(default)s)")
    add("--batch-size", type=int, default=64, help="inputs per forward of an encoder (default %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default %(default)s")
    add("--seed", type=int, default=0, help="of the split and the pre-flight check (default %(default)s)")
    return parser


def run(arguments: Namespace) -> int:
    """Align, save, and print the retrieval table.

    Raises:
        ValueError: If the pairs, an encoder or a choice does not fit.
        OSError: If an encoder is not found or the output cannot be written.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("otmerge_hf.features").setLevel(logging.INFO)
    # A folder's README without a dataset card's header is nothing to warn of.
    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)
    splits = load_splits(arguments)
    for name, split in splits.items():
        counts = f"{len(split.images):,} images, {len(split.texts):,} texts, {len(split.pairs):,} pairs"
        _say(f"{name}: {counts} ({split.origin})")
    merge = Merge(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)

    started = time.perf_counter()
    stores = {side: {t: merge.features(side, t, splits) for t in merge.tokens[side]} for side in SIDES}
    seconds = {"features": time.perf_counter() - started}
    chosen, report = _check(stores, splits["train"].pairs, arguments.seed)
    train_stores = {side: stores[side][chosen[side]]["train"] for side in SIDES}
    statistics = {side: store.statistics() for side, store in train_stores.items()}
    model = merge.build(chosen).cpu()
    model.fit_standardization(**statistics)
    means = {
        name: [
            _apply(model, f"{side}_standardizer", mean_features(stores[side][chosen[side]][name])) for side in SIDES
        ]
        for name in splits
    }

    started = time.perf_counter()
    choice = choose_fit(
        (means["train"][0], means["train"][1], splits["train"].pairs),
        (means["validation"][0], means["validation"][1], splits["validation"].pairs),
        kind=arguments.fit,
        shared_dim=arguments.shared_dim,
    )
    seconds["fit"] = time.perf_counter() - started
    _say(f"\nRecall@1 on validation, best {min(_LISTED, len(choice.candidates))} of {len(choice.candidates)} fits:")
    for candidate in choice.candidates[:_LISTED]:
        _say(f"  {candidate.recall:.4f}  {candidate.fit}")

    model = merge.build(chosen, choice.fit.shared_dim_)
    model.fit_standardization(**statistics)
    model.load_alignment(choice.fit, standardized=True)
    model.save_pretrained(arguments.output)
    merge.processor.save_pretrained(arguments.output)
    context, query = (_apply(model, f"{side}_adapter", x) for side, x in zip(SIDES, means["test"], strict=True))
    scores = retrieval(context, query, splits["test"].pairs)
    results = {
        "context": arguments.context,
        "query": arguments.query,
        "tokens": chosen,
        "images": {name: len(split.images) for name, split in splits.items()},
        "texts": {name: len(split.texts) for name, split in splits.items()},
        "preflight": report,
        "fit": choice.candidates[0].fit,
        "candidates": [candidate._asdict() for candidate in choice.candidates],
        "test": scores,
        "seconds": seconds,
    }
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    _say(retrieval_table(scores, len(splits["test"].images), len(splits["test"].texts)))
    _say(f"Features {seconds['features']:.1f} s, fits {seconds['fit']:.1f} s. Model and results: {arguments.output}/")
    return 0


def _check(
    stores: dict[str, dict[str | int, dict[str, FeatureStore]]], pairs: Tensor, seed: int
) -> tuple[dict[str, str | int], str]:
    """Print what the encoders share, and choose among several choices of tokens."""
    chosen = {side: next(iter(choices)) for side, choices in stores.items()}
    context, query = (
        {str(tokens): mean_features(splits["train"]) for tokens, splits in stores[side].items()} for side in SIDES
    )
    try:
        report = preflight(context, query, pairs, seed=seed)
    except ValueError as error:
        if any(len(choices) > 1 for choices in stores.values()):
            raise
        _say(f"\nNo pre-flight check: {error}")
        return chosen, str(error)
    _say(f"\n{report}")
    best = (report.best.context_layer, report.best.query_layer)
    for side, layer in zip(SIDES, best, strict=True):
        chosen[side] = next(tokens for tokens in stores[side] if str(tokens) == layer)
    return chosen, str(report)


@torch.no_grad()
def _apply(model: OTMergeModel, name: str, x: Tensor) -> Tensor:
    """Run one module of the merge on mean features (N, D_side): an affine map of tokens commutes with their mean."""
    part: torch.nn.Module = getattr(model, name)
    return part(x)


def retrieval_table(scores: dict[str, float], images: int, texts: int) -> str:
    """Recall and median rank of both directions as lines of text.

    Args:
        scores: From [`retrieval`].
        images: Candidates of text -> image.
        texts: Candidates of image -> text.
    """
    lines = [f"\n{'test':16}{'candidates':>12}{'R@1':>9}{'R@5':>9}{'R@10':>9}{'median rank':>13}"]
    for name, direction, count in (
        ("image -> text", "context_to_query", texts),
        ("text -> image", "query_to_context", images),
    ):
        recalls = "".join(f"{scores[f'{direction}_recall@{k}']:9.4f}" for k in (1, 5, 10))
        lines.append(f"{name:16}{count:12,}{recalls}{scores[f'{direction}_median_rank']:13.1f}")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, flush=True)
