"""One case of the suite `transport`: every contestant tuned, then all take turns in one process, A B C A B C.

So what else the machine does falls on all of them; medians are compared, and the fastest runs beside them.
"""

import os
import statistics
import time
from typing import Any


VALUE_BAR, GRADIENT_BAR = 1e-4, 1e-2


def run_case(n: int, d: int, epsilon: float, threads: int, limit: float, seconds: float = 15.0) -> dict[str, Any]:
    """Tune every contestant on one case, then let them take turns."""
    if hasattr(os, "sched_setaffinity"):  # before the libraries count the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import numpy as np
    import torch

    from otmerge_hf.transport import sinkhorn

    from .transport_rivals import clouds, contestants, floor, mean_cost, reference

    torch.set_num_threads(threads)
    x, y = clouds(n, d)
    absolute = epsilon * mean_cost(x, y)
    true_value, true_gradient = reference(x, y, absolute)

    def errors(answer: tuple[Any, Any]) -> tuple[float, float]:
        value, gradient = answer
        difference = np.asarray(gradient, dtype=np.float64) - true_gradient.numpy()
        return abs(float(value) / true_value - 1), float(np.linalg.norm(difference) / true_gradient.norm())

    rows: dict[str, dict[str, Any]] = {}
    turns: dict[str, Any] = {}
    for player in contestants(x, y, absolute):
        rows[player.name], knob = tune(player, errors, limit)
        turns[player.name] = lambda player=player, knob=knob: player.run(knob)
    iterations = sinkhorn(x, y, epsilon=epsilon).iterations
    turns["floor"] = floor(x, y, absolute, iterations)
    rows["floor"] = {}
    times: dict[str, list[float]] = {name: [] for name in turns}
    # On one core the time of the processor, all threads of the process, which other jobs cannot lengthen much.
    clock = time.process_time if threads == 1 else time.perf_counter
    start = time.perf_counter()
    for turn in turns.values():
        turn()
    round_time = time.perf_counter() - start
    for _ in range(int(min(200, max(3, seconds / round_time)))):
        for name, turn in turns.items():
            times[name].append(timed(turn, clock))
    for name, row in rows.items():
        row["ms"] = 1e3 * statistics.median(times[name])
        # the ratio of each round, so that a slow spell of the machine falls on both sides of it
        rounds = zip(times[name], times["otmerge_hf"], strict=True)
        row["ratio"] = statistics.median(theirs / mine for theirs, mine in rounds)
        row["best_ratio"] = min(times[name]) / min(times["otmerge_hf"])
    return {
        "value_bar": VALUE_BAR,
        "gradient_bar": GRADIENT_BAR,
        "iterations": iterations,
        "rounds": len(times["floor"]),
        "rows": rows,
    }


def tune(player: Any, errors: Any, limit: float) -> tuple[dict[str, Any], Any]:
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
        value_error, gradient_error = errors(answer)
        met = value_error <= VALUE_BAR and gradient_error <= GRADIENT_BAR
        chosen = {"setting": knob, "value_error": value_error, "gradient_error": gradient_error, "met": met}
        if met or seconds > limit:
            break
    assert chosen is not None
    return chosen, chosen["setting"]


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
