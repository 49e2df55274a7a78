"""One cell of `forecast`: n pairs drawn, a forecast made of them, the same fits made and tested on other rows."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from otmerge_hf.alignment import forecast
from otmerge_hf.alignment.forecasting import closed_forms
from otmerge_hf.metrics import retrieval

from ..runner.cell import Place
from ..tasks.folder import VARIABLE
from ..tasks.one_to_one import Paired, load_one_to_one


FEW = 100  # candidates, besides all test rows
# As many test rows as a third of the set allows.
TESTED = (1000, 300)
TEST_SHARE = 1 / 3
MORE = (2, 4)  # times the pairs, to test the learning curve by
RECALLS = (0.1, 0.2, 0.5, 0.8)


def rows(choices: Mapping[str, Any], place: Place) -> list[dict[str, Any]]:
    """A row for every number of pairs and of candidates: `forecast` and `measured`."""
    named = os.environ.get(VARIABLE)
    data = load_one_to_one(choices["data"], Path(named) if named else None, place.cache)
    order = torch.randperm(len(data.context), generator=torch.Generator().manual_seed(choices["draw"]))
    tested = next(size for size in TESTED if TEST_SHARE * len(order) >= size)
    order, test = order[tested:], order[:tested]
    made = []
    for done, count in enumerate(choices["pairs"]):
        if count > len(order):
            break
        x, y = data.context[order[:count]], data.query[order[:count]]
        for candidates in (FEW, tested):
            found = forecast(x, y, candidates=candidates, seed=choices["draw"])
            made.append(
                {
                    "pairs": count,
                    "candidates": candidates,
                    "forecast": {
                        "fit": found.fit,
                        "recall": found.recall,
                        "interval": [found.low, found.high],
                        "by_fit": found.by_fit,
                        "with_more": {times: found.with_pairs(times * count) for times in MORE},
                        "needed": {recall: found.needed(recall) for recall in RECALLS},
                    },
                    "measured": {
                        times: _measured(data, order[: times * count], test, candidates)
                        for times in (1, *MORE)
                        if times * count <= len(order)
                    },
                }
            )
        place.report_progress((done + 1) / len(choices["pairs"]))
    return made


def _measured(data: Paired, drawn: Tensor, test: Tensor, candidates: int) -> dict[str, dict[str, float]]:
    """Recall@k by closed form, on test rows in blocks of so many candidates, the mean of both directions."""
    scores: dict[str, dict[str, float]] = {}
    context, query = ((side - side[drawn].mean(0)) / side[drawn].std(0).clamp_min(1e-6) for side in data)
    for fit in closed_forms():
        fit.fit(context[drawn], query[drawn])
        shared = fit.transform_context(context[test]), fit.transform_query(query[test])
        blocks = [
            retrieval(*(side[start : start + candidates] for side in shared))
            for start in range(0, len(shared[0]) - candidates + 1, candidates)
        ]
        scores[repr(fit)] = {
            str(k): sum(
                block[f"{direction}_recall@{k}"] / 2
                for block in blocks
                for direction in ("context_to_query", "query_to_context")
            )
            / len(blocks)
            for k in (1, 5, 10)
        }
    return scores
