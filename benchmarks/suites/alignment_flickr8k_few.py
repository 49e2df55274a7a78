"""Part `flickr8k_few` of the suite `alignment`: few captioned photographs, all others unpaired.

In: the folder that `OTMERGE_DATA` names. Out: mean Recall@1 of the test photographs by method and draw of the pairs.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from statistics import mode
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from otmerge_hf.alignment import Alignment, Procrustes, SinkhornProcrustes, WassersteinProcrustes, pseudo_pairs
from otmerge_hf.alignment.base import AffineMap, unpaired_rows
from otmerge_hf.alignment.choice import WASSERSTEIN, Candidate, choose_fit
from otmerge_hf.alignment.encoder_pair import EncoderPair
from otmerge_hf.alignment.recommendations import FitName
from otmerge_hf.data import load_pair_splits
from otmerge_hf.features import mean_features
from otmerge_hf.losses import contrastive_loss, sinkhorn_loss
from otmerge_hf.metrics import retrieval

from ..runner.cell import Place, Record
from ..tasks import emoji
from . import alignment_flickr8k
from .alignment_flickr8k import flickr8k_folder


CLOSED_FORMS: tuple[FitName, ...] = ("procrustes", "cca", "ridge")
UNPAIRED = "SinkhornProcrustes"
WASSERSTEIN_UP_TO = 500  # pairs; it is the slowest
STEPS, EVALUATIONS = 48, 6
Sides = tuple[Tensor, Tensor, Tensor]  # context (N, Dc), query (M, Dq), pairs (P, 2)
Maps = tuple[AffineMap, AffineMap]


def flickr8k_few(choices: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Every method on `choices["pairs"]` pairs, drawn `choices["seeds"]` times.

    Raises:
        FileNotFoundError: If no folder is named, or it has no `flickr8k`.
    """
    train, test, frame = _features(place)
    count = choices["pairs"]
    made: dict[str, list[dict[str, Any]]] = {}
    for seed in range(choices["seeds"]):
        for name, (fit, maps) in _methods(train, frame, _draw(train[2], count, seed), seed).items():
            score = retrieval(maps[0](test[0]), maps[1](test[1]), test[2], ks=())["mean_recall@1"]
            made.setdefault(name, []).append({"fit": fit, "test": score})
        place.report_progress((seed + 1) / choices["seeds"])
    rows = {name: {"fit": mode(run["fit"] for run in runs), "runs": runs} for name, runs in made.items()}
    sizes = {"train_images": len(train[0]), "train_texts": len(train[1]), "test_images": len(test[0])}
    return sizes | {"seeds": choices["seeds"], "by_pairs": {str(count): rows}}


def joined(records: Sequence[Record]) -> list[Record]:
    """Cells of several numbers of pairs -> one record for each number of draws, fewest pairs first."""
    made: dict[int, Record] = {}
    for record in sorted(records, key=lambda record: record["settings"]["pairs"]):
        one = made.setdefault(record["seeds"], record | {"by_pairs": {}})
        one["by_pairs"] |= record["by_pairs"]
    return list(made.values())


def _features(place: Place) -> tuple[Sides, Sides, Tensor]:
    """Standardised mean features of training and test rows, and the photographs' principal directions (Dc, 256)."""
    splits = load_pair_splits(str(flickr8k_folder()))
    encoders = EncoderPair(
        *alignment_flickr8k.ENCODERS, {side: ["last_hidden_state"] for side in ("context", "query")}
    )
    means = {}
    for side, column in (("context", "images"), ("query", "texts")):
        inputs = {name: getattr(splits[name], column) for name in ("train", "test")}
        options: dict[str, Any] = {"cache_dir": place.cache / "flickr8k", "batch_size": 16, "device": "cpu"}
        stores = encoders.encode(side, "last_hidden_state", inputs, **options)
        means[side] = emoji.standardised({name: mean_features(store) for name, store in stores.items()})
    train, test = ((means["context"][s], means["query"][s], splits[s].pairs) for s in ("train", "test"))
    width = train[0].shape[1]
    # standardised rows have mean zero, so that the axes' coordinates are the frame
    frame = emoji.principal({"train": train[0], "axes": torch.eye(width)}, min(256, width))["axes"]
    return train, test, frame


def _draw(pairs: Tensor, count: int, seed: int) -> Tensor:
    """`count` photographs with one caption each, (count, 2)."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = pairs[torch.randperm(len(pairs), generator=generator)]
    first = {image: row for row, image in reversed(list(enumerate(shuffled[:, 0].tolist())))}
    return shuffled[sorted(first.values())[:count]]


def _methods(rows: Sides, frame: Tensor, pairs: Tensor, seed: int) -> dict[str, tuple[str, Maps]]:
    """Each method's fit on all pairs; a fifth of them chooses its strengths, as users without other pairs must."""
    context, query = rows[0] @ frame, rows[1]
    held, fitted = pairs[: len(pairs) // 5], pairs[len(pairs) // 5 :]
    train, validation = ((context[part[:, 0]], query[part[:, 1]], None) for part in (fitted, held))
    made: dict[str, Alignment] = {}
    closed: list[tuple[Candidate, Alignment]] = []
    for kind in CLOSED_FORMS:
        choice = choose_fit(train, validation, kind=kind)
        made[kind] = _fresh(choice.fit).fit(context, query, pairs)
        closed.append((choice.candidates[0], choice.fit))
    start = max(closed, key=lambda pair: (pair[0].recall, pair[0].mean_average_precision))[1]
    best = made["auto: one of the three"] = made[CLOSED_FORMS[[pair[1] for pair in closed].index(start)]]
    neighbours, _ = pseudo_pairs(best, context, query, known=pairs)
    made["auto + mutual neighbours as pairs"] = _fresh(best).fit(context, query, torch.cat([pairs, neighbours]))
    base = Procrustes(min(128, *frame.shape, query.shape[1]))
    plans = [
        SinkhornProcrustes(base, epsilon=0.03, pair_weight=weight, batch_size=1024, iterations=15)
        for weight in (0.1, 0.3, 0.7)
    ]
    scores = [fit.fit(context, query, fitted).score(*validation) for fit in plans]
    plan = plans[scores.index(max(scores))]
    made[UNPAIRED] = _fresh(plan).fit(context, query, pairs)
    if len(pairs) <= WASSERSTEIN_UP_TO:
        made["WassersteinProcrustes"] = WassersteinProcrustes(**WASSERSTEIN).fit(context, query, pairs)
    found = {name: (repr(fit), _unfolded(fit, frame)) for name, fit in made.items()}
    for name, first, again in (("auto", start, best), (UNPAIRED, plan, made[UNPAIRED])):
        for term, weight in (("", 0.0), (" + sinkhorn", 1.0)):
            options: dict[str, Any] = {"weight": weight, "seed": seed}
            steps = _train(_unfolded(first, frame), rows, fitted, held, **options)[1]
            maps = _train(_unfolded(again, frame), rows, pairs, None, **options, steps=steps)[0]
            found[f"{name}, then contrastive{term}"] = (repr(again), maps)
    return found


def _fresh(fit: Alignment) -> Alignment:
    return type(fit)(**fit.get_params())


def _unfolded(fit: Alignment, frame: Tensor) -> Maps:
    """The fit's maps, of all features in place of their principal directions."""
    return AffineMap(fit.context_map_.weight @ frame.T, fit.context_map_.bias), fit.query_map_


def _train(
    start: Maps, rows: Sides, pairs: Tensor, held: Tensor | None, *, weight: float, seed: int, steps: int = STEPS
) -> tuple[Maps, int]:
    """Go on from a fit as `refine_alignment` does, with a Sinkhorn term on 256 unpaired rows a side.

    Returns:
        The maps and the step they are of: the best on `held` by Recall@1, the start if none gains; else the last.
    """
    torch.manual_seed(seed)
    heads: Any = nn.ModuleList([_head(affine) for affine in start])
    scale = nn.Parameter(torch.tensor(20.0).log())
    size = torch.cat([head.weight.detach().flatten() for head in heads]).square().mean().sqrt().item()
    optimizer = torch.optim.AdamW([*heads.parameters(), scale], lr=0.09 * size, weight_decay=0.01)
    turn = math.pi / STEPS  # the refit follows the schedule of the choice as far as it goes
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 5, (1 + math.cos(turn * step)) / 2)
    )
    free = unpaired_rows(pairs if held is None else torch.cat([pairs, held]), len(rows[0]), len(rows[1]))
    best, kept, done = _recall(heads, rows, held), copy.deepcopy(heads), 0
    for step in range(1, steps + 1):
        some = pairs[torch.randperm(len(pairs))[:1024]]
        context = heads[0](F.dropout(rows[0][some[:, 0]], 0.6))
        loss = contrastive_loss(context, heads[1](rows[1][some[:, 1]]), scale.exp())
        if weight:
            drawn = [side[index[torch.randperm(len(index))[:256]]] for side, index in zip(rows[:2], free, strict=True)]
            loss = loss + weight * sinkhorn_loss(heads[0](drawn[0]), heads[1](drawn[1]), normalize=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if held is None or step % (STEPS // EVALUATIONS) == 0:
            score = _recall(heads, rows, held)
            if held is None or score > best:
                best, kept, done = score, copy.deepcopy(heads), step
    return (_affine(kept[0]), _affine(kept[1])), done


@torch.no_grad()
def _recall(heads: Any, rows: Sides, held: Tensor | None) -> float:
    if held is None:
        return 0.0
    return retrieval(heads[0](rows[0][held[:, 0]]), heads[1](rows[1][held[:, 1]]), ks=())["mean_recall@1"]


def _head(affine: AffineMap) -> nn.Linear:
    head = nn.Linear(affine.weight.shape[1], affine.weight.shape[0])
    head.load_state_dict(affine._asdict())
    return head


def _affine(head: Any) -> AffineMap:
    return AffineMap(head.weight.detach(), head.bias.detach())
