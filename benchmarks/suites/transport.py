"""Time `otmerge_hf.transport.sinkhorn` against geomloss, POT and OTT-JAX, forward and backward, at equal accuracy.

    python benchmarks/transport.py            # everything: about an hour on two cores
    python benchmarks/transport.py --quick    # N <= 256, one thread, into runs/transport-quick: a few minutes

Every library runs at its cheapest setting whose value is within 1e-4 and whose gradient in x is within 1e-2 of POT in
float64; ours runs at its defaults in every case. All contestants of a case take turns in one process, A B C A B C,
so that what else the machine does falls on all of them; medians are compared, and the fastest runs beside them. Each
case and number of threads is a process of its own, confined to as many cores. Only ratios mean anything: they are
other library / ours.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


HERE = Path(__file__).parent
SIZES = [(64, 256), (256, 256), (256, 768), (1024, 512), (4096, 256)]
EPSILONS = [0.05, 0.01]
VALUE_BAR, GRADIENT_BAR = 1e-4, 1e-2


def main() -> None:
    """Run one process per number of threads, gather, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="N <= 256, one thread, nothing slower than 2 s a call")
    parser.add_argument("--sizes", nargs="*", help="such as 64x256 1024x512")
    parser.add_argument("--epsilons", nargs="*", type=float, default=EPSILONS)
    parser.add_argument("--threads", nargs="*", type=int)
    parser.add_argument("--limit", type=float, help="seconds a single call may take; slower settings are not tried")
    parser.add_argument("--append", action="store_true", help="keep the other cases of the report that is there")
    parser.add_argument("--output", type=Path, help="folder for transport.json and .md (default benchmarks/results)")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)  # N D epsilon threads limit: one case, in-process
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # N: peak memory of one solve, in-process
    options = parser.parse_args()
    if options.case:
        n, d, epsilon, threads, limit = options.case
        print(json.dumps(run_case(int(n), int(d), float(epsilon), int(threads), float(limit))))
        return
    if options.memory:
        print(json.dumps(run_memory(options.memory)))
        return
    if options.output is None:  # a trial must not take the place of the committed table
        options.output = HERE.parent / "runs" / "transport-quick" if options.quick else HERE / "results"
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes] if options.sizes else SIZES
    if options.quick:
        sizes = [size for size in sizes if size[0] <= 256]
    threads = options.threads or ([1] if options.quick else [1, 2])
    limit = options.limit or (2.0 if options.quick else 15.0)
    report: dict[str, Any] = {"machine": machine(), "value_bar": VALUE_BAR, "gradient_bar": GRADIENT_BAR, "cases": []}
    if options.append:
        report = json.loads((options.output / "transport.json").read_text())
    elif not options.quick:
        report["memory"] = in_process("--memory", 4096)
    for (n, d), count, epsilon in itertools.product(sizes, threads, options.epsilons):
        case = in_process("--case", n, d, epsilon, count, limit)
        keep = [old for old in report["cases"] if key(old) != key(case)]
        report["cases"] = sorted([*keep, case], key=key)
        print(line(case), flush=True)
        write(report, options.output)
    print((options.output / "transport.md").read_text())


def key(case: dict[str, Any]) -> tuple[Any, ...]:
    """What tells cases apart, and their order in the report."""
    return case["threads"], case["n"], case["d"], -case["epsilon"]


def write(report: dict[str, Any], folder: Path) -> None:
    """Write what there is so far, as JSON and as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transport.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "transport.md").write_text(markdown(report))


def in_process(*arguments: object) -> Any:
    """Run this file with ``arguments`` in a fresh process and read its last line."""
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    if arguments[0] == "--case":
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(arguments[4])
        if arguments[4] == 1:  # XLA at its best: no hand-over between threads that share one core
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_case(n: int, d: int, epsilon: float, threads: int, limit: float, seconds: float = 15.0) -> dict[str, Any]:
    """Tune every contestant on one case, then let them take turns."""
    if hasattr(os, "sched_setaffinity"):  # before the libraries count the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import numpy as np
    import torch

    from otmerge_hf.transport import sinkhorn
    from transport_rivals import clouds, contestants, floor, mean_cost, reference

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
    case = {"n": n, "d": d, "epsilon": epsilon, "threads": threads, "limit": limit, "iterations": iterations}
    return {**case, "rounds": len(times["floor"]), "rows": rows}


def tune(player: Any, errors: Any, limit: float) -> tuple[dict[str, Any], Any]:
    """Find the cheapest setting that meets both bars without a call slower than ``limit`` seconds."""
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


def run_memory(n: int) -> dict[str, float]:
    """Peak memory of one forward and backward beyond the inputs, in units of N x N floats."""
    import torch

    from otmerge_hf.transport import sinkhorn

    x, y = torch.randn(n, 256), torch.randn(n, 256)
    x.requires_grad_()
    sinkhorn(x[:64], y[:64]).value.backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sinkhorn(x, y, epsilon=0.01).value.backward()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"n": n, "n2_floats": (after - before) * 1024 / (4 * n * n)}


def machine() -> dict[str, Any]:
    """What the ratios were measured on."""
    versions = {}
    for package in ("torch", "geomloss", "POT", "ott-jax", "jax", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    names = [row.split(":")[1].strip() for row in _cpuinfo() if row.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


OTHERS = ["geomloss matched", "geomloss 0.5", "POT log", "OTT-JAX jit"]


def cell(row: dict[str, Any] | None, ratio: str, with_error: bool = False) -> str:
    """One ratio; '>' when the library never met the bars, so that more would cost more."""
    if row is None:
        return "-"
    text = f"{row[ratio]:.1f}" if row["met"] or with_error else f"> {row[ratio]:.1f}"
    return f"{text} ({row['gradient_error']:.1%})" if with_error or not row["met"] else text


def line(case: dict[str, Any], ratio: str = "ratio") -> str:
    """One row of a table."""
    rows = case["rows"]
    mine = rows["otmerge_hf"]
    cells = [cell(rows.get(name), ratio, with_error=name == "geomloss 0.5") for name in OTHERS]
    return (
        f"| {case['n']}, {case['d']}, {case['epsilon']} | {case['threads']} | {case['iterations']} "
        f"| {mine['value_error']:.0e}, {mine['gradient_error']:.0e} | {' | '.join(cells)} "
        f"| {1 / rows['floor'][ratio]:.1f} | {mine['ms']:.2f} |"
    )


def markdown(report: dict[str, Any]) -> str:
    """The table, with what is needed to read it."""
    facts = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    lines = [
        "# Entropic transport: time of the others over ours",
        "",
        "Written by `python benchmarks/transport.py`; the same numbers with settings in `transport.json`.",
        "",
        "Forward and backward (gradient in x), float32. Each library runs at its cheapest setting whose value is "
        f"within {report['value_bar']:g} and whose gradient is within {report['gradient_bar']:g} of POT in float64; "
        "ours at its defaults. Runs take turns in one process. A ratio is their time / ours: above 1 we are faster; "
        "on one thread it is processor time, on two it is wall time. `>`: the dearest setting tried does not meet the "
        "bars; its gradient error stands in brackets. geomloss 0.5 is its default, not held to the bars, gradient "
        "error in brackets. Ours / floor: the floor is one cost product, one plan product, two exponentials and the "
        "matrix-vector products we did. The milliseconds are of a shared machine and mean little.",
        "",
        f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]:.1f} at the start; "
        f"Python {facts['python']}, {versions}.",
    ]
    titles = {"ratio": "Medians over rounds", "best_ratio": "The fastest run of each"}
    for ratio, title in titles.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| N, D, epsilon / mean cost | threads | our iterations | our errors: value, gradient | geomloss matched "
            "| geomloss 0.5 | POT log | OTT-JAX jit | ours / floor | our ms |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(line(case, ratio) for case in report["cases"]),
        ]
    if "memory" in report:
        memory = report["memory"]
        lines += ["", f"Peak memory at N = {memory['n']}: {memory['n2_floats']:.2f} N x N floats beyond the inputs."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
