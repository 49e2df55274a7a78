"""One case of the suite `transport`: every contestant tuned, then all take turns in one process, A B C A B C.

So what else the machine does falls on all of them; medians are compared, and the fastest runs beside them.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


VALUE_BAR, GRADIENT_BAR = 1e-4, 1e-2


def run_case(n: int, d: int, epsilon: float, threads: int, limit: float) -> dict[str, Any]:
    """Compare all contestants on one case."""
    confine(threads)
    from otmerge_hf.transport import sinkhorn

    from .transport_rivals import clouds, contestants, floor, mean_cost, reference

    x, y = clouds((n, d), (n, d))
    absolute = epsilon * mean_cost(x, y)
    truth = reference(x, y, absolute)[:2]  # the gradient in x only
    iterations = sinkhorn(x, y, epsilon=epsilon).iterations
    extra = {"floor": floor(x, y, absolute, iterations)}
    # On one core the time of the processor, all threads of the process, which other jobs cannot lengthen much.
    clock = time.process_time if threads == 1 else time.perf_counter
    return {"iterations": iterations} | compare(contestants(x, y, absolute), truth, extra, limit, clock)


def confine(threads: int) -> None:
    """Keep this process to as many cores as it has threads, before the libraries count the cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import torch

    torch.set_num_threads(threads)


def compare(
    players: Sequence[Any],
    truth: Sequence[Any],
    extra: dict[str, Callable[[], Any]],
    limit: float,
    clock: Callable[[], float] = time.process_time,
    seconds: float = 15.0,
) -> dict[str, Any]:
    """Tune every contestant, then let them take turns for some seconds, with what is timed for itself in `extra`."""
    rows: dict[str, dict[str, Any]] = {}
    turns: dict[str, Any] = {}
    diverged = []
    for player in players:
        row, knob = tune(player, truth, limit)
        if not math.isfinite(row["value_error"] + row["gradient_error"]):
            diverged.append(player.name)
            continue
        rows[player.name] = row
        turns[player.name] = lambda player=player, knob=knob: player.run(knob)
    turns |= extra
    rows |= {name: {} for name in extra}
    times: dict[str, list[float]] = {name: [] for name in turns}
    start = time.perf_counter()
    for turn in turns.values():
        turn()
    round_time = time.perf_counter() - start
    rounds = int(min(200, max(3, seconds / round_time)))
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name].append(timed(turn, clock))
    for name, row in rows.items():
        row["ms"] = 1e3 * statistics.median(times[name])
        # the ratio of each round, so that a slow spell of the machine falls on both sides of it
        pairs = zip(times[name], times["otmerge_hf"], strict=True)
        row["ratio"] = statistics.median(theirs / mine for theirs, mine in pairs)
        row["best_ratio"] = min(times[name]) / min(times["otmerge_hf"])
    found = {"value_bar": VALUE_BAR, "gradient_bar": GRADIENT_BAR, "rounds": rounds, "rows": rows}
    return found | ({"diverged": diverged} if diverged else {})


def tune(player: Any, truth: Sequence[Any], limit: float) -> tuple[dict[str, Any], Any]:
    """Find the cheapest setting that meets both bars without a call slower than `limit` seconds."""
    seconds, last_cost, chosen = 0.0, 1.0, None
    for knob in player.knobs:
        if chosen is not None and seconds * player.cost(knob) / last_cost > limit:
            break
        start = time.perf_counter()
        answer = player.run(knob)  # compiles, allocates
        if time.perf_counter() - start < 3.0:
            start = time.perf_counter()
            answer = player.run(knob)
        seconds, last_cost = time.perf_counter() - start, player.cost(knob)
        value_error, gradient_error = errors(answer, truth)
        met = value_error <= VALUE_BAR and gradient_error <= GRADIENT_BAR
        chosen = {"setting": knob, "value_error": value_error, "gradient_error": gradient_error, "met": met}
        if met or seconds > limit or not math.isfinite(value_error + gradient_error):
            break
    assert chosen is not None
    return chosen, chosen["setting"]


def errors(answer: Sequence[Any], truth: Sequence[Any]) -> tuple[float, float]:
    """Relative error of the value and of the gradients, the largest over all problems."""
    import numpy as np

    found = []
    for got, wanted in zip(answer, truth, strict=True):
        got, wanted = (np.asarray(part, dtype=np.float64) for part in (got, wanted))
        axes = (-2, -1) if wanted.ndim > 1 else ()  # a gradient of one problem, or its value
        size = (lambda part, axes=axes: np.linalg.norm(part, axis=axes)) if axes else np.abs
        found.append(float(np.max(size(got - wanted) / size(wanted))))
    return found[0], max(found[1:])


def timed(turn: Any, clock: Any) -> float:
    """Seconds of one call."""
    start = clock()
    turn()
    return clock() - start


def run_memory(n: int, d: int, epsilon: float) -> dict[str, float]:
    """Peak memory of one forward and backward beyond the inputs, in units of N x N floats."""
    import torch

    from otmerge_hf.transport import sinkhorn

    from ..runner.machine import memory_mib, peak_memory_mib

    x, y = torch.randn(n, d), torch.randn(n, d)
    x.requires_grad_()
    sinkhorn(x[:64], y[:64]).value.backward()
    before = memory_mib()
    sinkhorn(x, y, epsilon=epsilon).value.backward()
    return {"n2_floats": (peak_memory_mib() - before) * 2**20 / (4 * n * n)}
