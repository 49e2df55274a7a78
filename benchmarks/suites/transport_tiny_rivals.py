"""What comes in: many tiny problems. What goes out: values and gradients in both clouds, by us and by everyone else.

The contestants are those of [`transport_rivals`], on all problems in one call: ours in a batch, OTT-JAX under `vmap`,
POT in a loop.
"""

import warnings
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from otmerge_hf.transport import sinkhorn_batch

from .transport_rivals import TOLERANCES, Contestant, clouds, ott_jax, pot_value, reference
from .transport_timing import compare


LIMIT, SECONDS = 15.0, 60.0


def run_case(problems: int, n: int, m: int, d: int, epsilon: float) -> dict[str, Any]:
    """Compare all contestants on one case; our plans and a gradient through them are timed beside."""
    x, y = clouds((problems, n, d), (problems, m, d))
    epsilons = epsilon * (0.5 * torch.cdist(x.double(), y.double()) ** 2).mean((-2, -1))
    parts = zip(*map(reference, x, y, epsilons.tolist()), strict=True)
    truth = [np.stack([np.asarray(part) for part in one]) for one in parts]
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()
    weights = torch.randn(problems, n, m, generator=torch.Generator().manual_seed(1))

    def plan(slack: float | None = None) -> None:
        torch.autograd.grad((sinkhorn_batch(*leaves, epsilon=epsilon, slack=slack).plan() * weights).sum(), leaves)

    with warnings.catch_warnings(), np.errstate(all="ignore"):  # what meets no bar is shown, not said
        warnings.simplefilter("ignore")
        players = contestants(x, y, epsilon, epsilons)
        extra = {"our plan": plan, "our plan, slack 0.3": lambda: plan(0.3)}
        found = compare(players, truth, extra, LIMIT, seconds=SECONDS)
    return {"iterations": sinkhorn_batch(x, y, epsilon=epsilon).iterations} | found


def contestants(x: Tensor, y: Tensor, epsilon: float, epsilons: Tensor) -> list[Contestant]:
    """Everyone on the same problems; `epsilon` as a share of each mean cost, `epsilons` (B,) in units of the cost."""
    leaves = x.clone().requires_grad_(), y.clone().requires_grad_()

    def gradients(values: Tensor) -> tuple[Any, ...]:
        return values.detach(), *torch.autograd.grad(values.sum(), leaves)

    def ours(_: None) -> tuple[Any, ...]:
        return gradients(sinkhorn_batch(*leaves, epsilon=epsilon).value)

    def by_pot(tolerance: float) -> tuple[Any, ...]:
        problems = zip(*leaves, epsilons.tolist(), strict=True)
        return gradients(torch.stack([pot_value(*problem, tolerance) for problem in problems]))

    def by_numpy(tolerance: float) -> tuple[Any, ...]:
        problems = zip(x.numpy(), y.numpy(), epsilons.tolist(), strict=True)
        solved = [_solve_numpy(*problem, tolerance) for problem in problems]
        return tuple(np.stack(part) for part in zip(*solved, strict=True))

    tolerances = (3e-1, *TOLERANCES)
    found = [Contestant("otmerge_hf", ours, [None])]
    for mode, lse_mode in {"logarithmic": True, "kernel": False}.items():
        for inner in (1, 5, 10):
            jitted = ott_jax(x, y, epsilons.float(), (0, 1), lse_mode=lse_mode, inner_iterations=inner)
            if jitted is not None:
                found.append(Contestant(f"OTT-JAX {mode}, looks every {inner}", jitted, tolerances))
    return [*found, Contestant("POT ot.solve", by_pot, tolerances), Contestant("POT NumPy", by_numpy, tolerances)]


def _solve_numpy(x: Any, y: Any, epsilon: float, tolerance: float) -> tuple[Any, Any, Any]:
    """POT's `ot.sinkhorn` on float32 arrays, the value and the gradients written out by hand."""
    a, b = (np.full(len(points), 1 / len(points), dtype=np.float32) for points in (x, y))
    cost = 0.5 * ot.dist(x, y)
    # its scaling loop divides by zero at small epsilon; the logarithmic one does not
    plain = epsilon > 0.02 * float(cost.mean())
    method = "sinkhorn" if plain else "sinkhorn_log"
    plan, log = ot.sinkhorn(a, b, cost, epsilon, method=method, stopThr=tolerance, numItermax=20000, log=True)
    log_u, log_v = (np.log(log["u"]), np.log(log["v"])) if plain else (log["log_u"], log["log_v"])
    value = epsilon * (a @ (log_u - np.log(a)) + b @ (log_v - np.log(b)))
    return value, a[:, None] * x - plan @ y, b[:, None] * y - plan.T @ x
