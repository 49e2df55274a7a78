"""Time `sinkhorn_batch` on many tiny problems against OTT-JAX and POT, forward and backward, at equal accuracy.

    python benchmarks/transport_tiny.py            # 128 problems of 12 x 49 in 128 dimensions: a few minutes

Value and gradients in both clouds, float32, one thread, one core. Every library runs at its cheapest setting whose
values are all within 1e-4 and whose gradients are, problem by problem, within 1e-2 of POT in float64; ours at its
defaults. All take turns in one process, A B C A B C, so that what else the machine does falls on all of them. Times
are processor time. Ratios are other library / ours: the median over rounds, and of the fastest runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


# One thread each, before the libraries count the cores.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np
import ot
import torch
from torch import Tensor

from otmerge_hf.transport import sinkhorn_batch


VALUE_BAR, GRADIENT_BAR = 1e-4, 1e-2
EPSILONS = (0.05, 0.01)
TOLERANCES = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)

#: Values (B,), gradients (B, N, D) and (B, M, D).
Answer = tuple[Any, Any, Any]
Run = Callable[[], Answer]


def main() -> None:
    """Time every epsilon, write JSON and Markdown, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=128)
    parser.add_argument("--size", type=int, nargs=2, default=(12, 49), metavar=("N", "M"))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, y = clouds(options.problems, options.size[0], options.size[1], options.dim)
    report = {
        "machine": machine(),
        "problems": options.problems,
        "size": list(options.size),
        "dim": options.dim,
        "value_bar": VALUE_BAR,
        "gradient_bar": GRADIENT_BAR,
        "cases": [run_case(x, y, epsilon, options.rounds) for epsilon in EPSILONS],
        "plan": run_plans(x, y, options.rounds),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "transport-tiny.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.output / "transport-tiny.md").write_text(markdown(report))
    sys.stdout.write(markdown(report))


def clouds(problems: int, n: int, m: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clouds (B, n, d), (B, m, d), with variances that fall as those of pretrained features fall."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1.0, d + 1) ** -0.35
    x = torch.randn(problems, n, d, generator=generator) * spread
    y = torch.randn(problems, m, d, generator=generator) * spread * torch.linspace(1.3, 0.7, d)
    return x, y + 0.3 * spread * torch.randn(problems, 1, d, generator=generator)


def reference(x: Tensor, y: Tensor, epsilons: Tensor) -> Answer:
    """Values and gradients by POT in float64, one problem after the other, from our potentials to save hours.

    A start cannot bias the answer: POT iterates until its own marginal error is below 1e-9.
    """
    x, y = x.double(), y.double()
    values, grads_x, grads_y = [], [], []
    relative = float(epsilons[0]) / float((0.5 * torch.cdist(x[0], y[0]) ** 2).mean())
    starts = sinkhorn_batch(x, y, epsilon=relative, tol=1e-9, max_iterations=100_000).potentials
    for one, other, epsilon, *start in zip(x, y, epsilons.tolist(), *starts, strict=True):
        cost = (0.5 * torch.cdist(one, other) ** 2).numpy()
        a, b = np.full(len(one), 1 / len(one)), np.full(len(other), 1 / len(other))
        warm = [p.numpy() / epsilon + np.log(w) for p, w in zip(start, (a, b), strict=True)]
        plan, log = ot.bregman.sinkhorn_log(
            a, b, cost, epsilon, numItermax=100_000, stopThr=1e-9, warmstart=warm, log=True
        )
        values.append(epsilon * float(a @ (log["log_u"] - np.log(a)) + b @ (log["log_v"] - np.log(b))))
        grads_x.append(a[:, None] * one.numpy() - plan @ other.numpy())
        grads_y.append(b[:, None] * other.numpy() - plan.T @ one.numpy())
    return np.array(values), np.stack(grads_x), np.stack(grads_y)


def errors(answer: Answer, truth: Answer) -> tuple[float, float]:
    """Largest relative error of a value and of a gradient over all problems."""
    value, *gradients = (np.asarray(part, dtype=np.float64) for part in answer)
    value_error = float(np.abs(value / truth[0] - 1).max())
    ratios = [
        np.linalg.norm(got - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
        for got, wanted in zip(gradients, truth[1:], strict=True)
    ]
    gradient_error = float(np.max(ratios))
    return tuple(e if np.isfinite(e) else float("inf") for e in (value_error, gradient_error))  # type: ignore[return-value]


def ours(x: Tensor, y: Tensor, epsilon: float) -> Iterator[tuple[Any, Run]]:
    """Our batched solver at its defaults."""
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()

    def run() -> Answer:
        value = sinkhorn_batch(*leaves, epsilon=epsilon).value
        grad_x, grad_y = torch.autograd.grad(value.sum(), leaves)
        return value.detach(), grad_x, grad_y

    yield "defaults", run


def pot_solve(x: Tensor, y: Tensor, epsilons: Tensor) -> Iterator[tuple[Any, Run]]:
    """POT's `ot.solve` on torch tensors with its envelope gradient, one problem after the other."""
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
    regularisation = epsilons.tolist()

    def at(tolerance: float) -> Run:
        def run() -> Answer:
            values = []
            for one, other, epsilon in zip(*leaves, regularisation, strict=True):
                cost = 0.5 * ot.dist(one, other)
                values.append(ot.solve(cost, reg=epsilon, tol=tolerance, max_iter=50_000, grad="envelope").value)
            value = torch.stack(values)
            grad_x, grad_y = torch.autograd.grad(value.sum(), leaves)
            return value.detach(), grad_x, grad_y

        return run

    return ((tolerance, at(tolerance)) for tolerance in TOLERANCES)


def pot_numpy(x: Tensor, y: Tensor, epsilons: Tensor) -> Iterator[tuple[Any, Run]]:
    """POT's `ot.sinkhorn` on float32 arrays, the value and the gradients written out by hand."""
    xs, ys, regularisation = x.numpy(), y.numpy(), epsilons.tolist()
    a = np.full(x.shape[1], 1 / x.shape[1], dtype=np.float32)
    b = np.full(y.shape[1], 1 / y.shape[1], dtype=np.float32)

    def at(tolerance: float) -> Run:
        def run() -> Answer:
            values, grads_x, grads_y = np.empty(len(xs)), np.empty_like(xs), np.empty_like(ys)
            for k, epsilon in enumerate(regularisation):
                cost = 0.5 * ot.dist(xs[k], ys[k])
                # its scaling loop divides by zero at small epsilon; the logarithmic one does not
                method = "sinkhorn" if epsilon > 0.02 * float(cost.mean()) else "sinkhorn_log"
                plan, log = ot.sinkhorn(
                    a, b, cost, epsilon, method=method, stopThr=tolerance, numItermax=50_000, log=True
                )
                if method == "sinkhorn":
                    logs = np.log(log["u"] / a), np.log(log["v"] / b)
                else:
                    logs = log["log_u"] - np.log(a), log["log_v"] - np.log(b)
                values[k] = epsilon * (a @ logs[0] + b @ logs[1])
                grads_x[k] = a[:, None] * xs[k] - plan @ ys[k]
                grads_y[k] = b[:, None] * ys[k] - plan.T @ xs[k]
            return values, grads_x, grads_y

        return run

    return ((tolerance, at(tolerance)) for tolerance in TOLERANCES)


def ott_jax(
    x: Tensor, y: Tensor, epsilons: Tensor, lse_mode: bool, inner_iterations: int
) -> Iterator[tuple[Any, Run]]:
    """OTT's solver under vmap and jit; nothing where jax or ott is missing."""
    try:
        import jax
        import jax.numpy as jnp
        from ott.geometry import costs, pointcloud
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn as ott_sinkhorn
    except ImportError:
        return
    inputs = tuple(jnp.asarray(part.numpy()) for part in (x, y, epsilons.float()))

    def at(threshold: float) -> Run:
        def value(points: Any, others: Any, epsilon: Any) -> Any:
            geometry = pointcloud.PointCloud(points, others, cost_fn=costs.SqEuclidean(), epsilon=2 * epsilon)
            solver = ott_sinkhorn.Sinkhorn(
                threshold=threshold, max_iterations=20_000, lse_mode=lse_mode, inner_iterations=inner_iterations
            )
            return 0.5 * solver(linear_problem.LinearProblem(geometry)).reg_ot_cost

        compiled = jax.jit(jax.vmap(jax.value_and_grad(value, argnums=(0, 1))))

        def run() -> Answer:
            values, gradients = jax.block_until_ready(compiled(*inputs))
            return (values, *gradients)

        return run

    for threshold in TOLERANCES:
        yield threshold, at(threshold)


def run_case(x: Tensor, y: Tensor, epsilon: float, rounds: int) -> dict[str, Any]:
    """Tune every contestant on one epsilon, then let them take turns."""
    mean = (0.5 * torch.cdist(x.double(), y.double()) ** 2).mean((-2, -1))
    epsilons = epsilon * mean
    truth = reference(x, y, epsilons)
    families: dict[str, list[Iterator[tuple[Any, Run]]]] = {
        "otmerge_hf": [ours(x, y, epsilon)],
        "OTT-JAX vmap jit, logarithmic": [ott_jax(x, y, epsilons, True, inner) for inner in (1, 5, 10)],
        "OTT-JAX vmap jit, kernel": [ott_jax(x, y, epsilons, False, inner) for inner in (1, 5, 10)],
        "POT loop, ot.solve": [pot_solve(x, y, epsilons)],
        "POT loop, numpy by hand": [pot_numpy(x, y, epsilons)],
    }
    rows: dict[str, dict[str, Any]] = {}
    turns: dict[str, Run] = {}
    for name, members in families.items():
        found = [member for member in (tune(knobs, truth) for knobs in members) if member is not None]
        found = [(run, row) for run, row in found if row["seconds"] < float("inf")]  # it left the finite numbers
        if found:
            turns[name], rows[name] = min(found, key=lambda pair: (not pair[1]["met"], pair[1]["seconds"]))
    times: dict[str, list[float]] = {name: [] for name in turns}
    slow = {name: rows[name]["seconds"] > 0.25 for name in turns}
    for turn in range(rounds):
        for name, run in turns.items():
            if not slow[name] or turn % 10 == 0:  # enough runs of what takes long anyway
                times[name].append(timed(run))
            elif times[name]:
                times[name].append(times[name][-1])
    mine = times["otmerge_hf"]
    for name, row in rows.items():
        row["ms"] = 1e3 * statistics.median(times[name])
        row["ratio"] = statistics.median(theirs / own for theirs, own in zip(times[name], mine, strict=True))
        row["best_ratio"] = min(times[name]) / min(mine)
    iterations = sinkhorn_batch(x, y, epsilon=epsilon).iterations
    return {"epsilon": epsilon, "iterations": iterations, "rounds": rounds, "rows": rows}


def tune(knobs: Iterator[tuple[Any, Run]], truth: Answer) -> tuple[Run, dict[str, Any]] | None:
    """The first setting, from cheap to dear, that meets both bars; the dearest when none does."""
    chosen = None
    for knob, run in knobs:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value_error, gradient_error = errors(run(), truth)
            diverged = not np.isfinite(value_error + gradient_error)
            seconds = float("inf") if diverged else timed(run)
            if seconds < 0.25:
                seconds = min(timed(run) for _ in range(5))
        met = value_error <= VALUE_BAR and gradient_error <= GRADIENT_BAR
        facts = {"value_error": value_error, "gradient_error": gradient_error, "met": met, "seconds": seconds}
        chosen = run, {"setting": knob, **facts}
        if met or seconds > 20.0 or diverged:
            break
    return chosen


def timed(run: Callable[[], Any]) -> float:
    """Processor seconds of one call, which other jobs cannot lengthen much."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        run()
        return time.process_time() - start


def run_plans(x: Tensor, y: Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds of a plan, forward and backward, with and without slack, at epsilon 0.05."""
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
    weights = torch.randn(len(x), x.shape[1], y.shape[1], generator=torch.Generator().manual_seed(1))
    found = {}
    for name, slack in (("exact marginals", None), ("slack 0.3", 0.3)):

        def run(slack: float | None = slack) -> None:
            torch.autograd.grad((sinkhorn_batch(*leaves, slack=slack).plan() * weights).sum(), leaves)

        run()
        found[name] = 1e3 * statistics.median(timed(run) for _ in range(rounds))
    return found


def machine() -> dict[str, Any]:
    """What the ratios were measured on."""
    versions: dict[str, str | None] = {}
    for package in ("torch", "POT", "ott-jax", "jax", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    path = Path("/proc/cpuinfo")
    names = [row.split(":")[1].strip() for row in path.read_text().splitlines() if row.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": versions,
    }


def markdown(report: dict[str, Any]) -> str:
    """The tables, with what is needed to read them."""
    facts, (n, m) = report["machine"], report["size"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    lines = [
        "# Many tiny transport problems: time of the others over ours",
        "",
        "Written by `python benchmarks/transport_tiny.py`; the same numbers in `transport-tiny.json`.",
        "",
        f"{report['problems']} problems of {n} x {m} points in {report['dim']} dimensions: values and gradients in "
        "both clouds, float32, one thread, processor time. Each library runs at its cheapest setting whose values are "
        f"all within {report['value_bar']:g} and whose gradients are, problem by problem, within "
        f"{report['gradient_bar']:g} of POT in float64; ours at its defaults. Runs take turns in one process. A ratio "
        "is their time / ours: above 1 we are faster. `>`: the dearest setting tried does not meet the bars. The "
        "milliseconds are of a shared machine and mean little.",
        "",
        f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]:.1f} at the start; "
        f"Python {facts['python']}, {versions}.",
        "",
        "| epsilon / mean cost | who | setting | largest error: value, gradient | ms | median ratio | fastest |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in report["cases"]:
        for name, row in case["rows"].items():
            setting = f"{case['iterations']} iterations" if name == "otmerge_hf" else f"tolerance {row['setting']:g}"
            more = "" if row["met"] else "> "
            lines.append(
                f"| {case['epsilon']} | {name} | {setting} | {row['value_error']:.0e}, {row['gradient_error']:.0e} "
                f"| {row['ms']:.2f} | {more}{row['ratio']:.1f} | {more}{row['best_ratio']:.1f} |"
            )
    plans = ", ".join(f"{name} {ms:.2f} ms" for name, ms in report["plan"].items())
    lines += ["", f"Our plan and a gradient through it, epsilon 0.05: {plans}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
