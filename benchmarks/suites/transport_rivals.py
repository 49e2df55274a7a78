"""What comes in: two clouds and an epsilon. What goes out: value and gradient in x, by us and by everyone else.

Every contestant is a function `run(knob) -> (value, gradient)` on fixed clouds, where `knob` is its own accuracy
setting, from cheap to expensive. All work in float32, forward and backward, with a gradient in x only;
[`transport_tiny_rivals`] has those on many problems at once.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import geomloss
import numpy as np
import ot
import torch
from torch import Tensor

from otmerge_hf.transport import sinkhorn


TOLERANCES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)

Run = Callable[[Any], tuple[Any, ...]]  # knob -> value, gradient in x, or in both clouds


@dataclass
class Contestant:
    """A library at one accuracy setting out of `knobs`; `cost` predicts how time grows along them."""

    name: str
    run: Run
    knobs: Sequence[Any]
    cost: Callable[[Any], float] = lambda knob: 1.0


def clouds(source: tuple[int, ...], target: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clouds of two shapes (..., N, D), as two encoders' shared embeddings overlap while training.

    Normal, with variances that fall like k^-0.7 as those of pretrained features fall; the second cloud is shifted by
    0.3 standard deviations and has another spread in every direction.
    """
    d = source[-1]
    generator = torch.Generator().manual_seed(seed)
    spread = torch.arange(1.0, d + 1) ** -0.35
    x = torch.randn(source, generator=generator) * spread
    y = torch.randn(target, generator=generator) * spread * torch.linspace(1.3, 0.7, d)
    return x, y + 0.3 * spread * torch.randn(*target[:-2], 1, d, generator=generator)


def reference(x: Tensor, y: Tensor, epsilon: float) -> tuple[float, Tensor, Tensor]:
    """Value and gradients by POT in float64, started from our own potentials so that large sizes end in minutes.

    A start cannot bias the answer: POT iterates until its own marginal error is below 1e-9.
    """
    x, y = x.double(), y.double()
    start = sinkhorn(x, y, epsilon=epsilon, epsilon_scale="absolute", tol=1e-8, max_iterations=20000)
    cost = (0.5 * torch.cdist(x, y) ** 2).numpy()
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    f, g = (potential.numpy() / epsilon for potential in start.potentials)
    # POT's scalings are those of exp(-C / epsilon), ours of a b^T exp(-C / epsilon).
    plan, log = ot.bregman.sinkhorn_log(
        a, b, cost, epsilon, numItermax=20000, stopThr=1e-9, log=True, warmstart=(f + np.log(a), g + np.log(b))
    )
    value = epsilon * (a @ (log["log_u"] - np.log(a)) + b @ (log["log_v"] - np.log(b)))
    plan = torch.from_numpy(plan)
    return float(value), plan.sum(1, keepdim=True) * x - plan @ y, plan.sum(0).unsqueeze(1) * y - plan.T @ x


def contestants(x: Tensor, y: Tensor, epsilon: float) -> list[Contestant]:
    """Everyone on the same clouds; `epsilon` in units of the cost."""
    relative = epsilon / float(mean_cost(x, y))
    leaf = x.clone().requires_grad_()

    def gradient(value: Tensor) -> tuple[Any, Tensor]:
        (grad,) = torch.autograd.grad(value, leaf)
        return value.detach(), grad

    def ours(_: None) -> tuple[Any, Tensor]:
        return gradient(sinkhorn(leaf, y, epsilon=relative).value)

    def by_geomloss(scaling: float) -> tuple[Any, Tensor]:
        loss = geomloss.SamplesLoss(
            "sinkhorn", p=2, blur=math.sqrt(epsilon), debias=False, scaling=scaling, backend="tensorized"
        )
        return gradient(loss(leaf, y))

    def by_pot(tolerance: float) -> tuple[Any, Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every start that is not float64
            return gradient(pot_value(leaf, y, epsilon, tolerance))

    diameter = float((torch.cat((x, y)).amax(0) - torch.cat((x, y)).amin(0)).norm())

    def annealing_steps(scaling: float) -> float:
        return max(1.0, math.log(diameter / math.sqrt(epsilon)) / -math.log(scaling))

    found = [
        Contestant("otmerge_hf", ours, [None]),
        Contestant("geomloss matched", by_geomloss, [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995], annealing_steps),
        Contestant("geomloss 0.5", by_geomloss, [0.5]),
        Contestant("POT log", by_pot, TOLERANCES),
    ]
    jitted = ott_jax(x, y, epsilon)
    return [*found, Contestant("OTT-JAX jit", jitted, TOLERANCES)] if jitted else found


def pot_value(x: Tensor, y: Tensor, epsilon: float, tolerance: float) -> Tensor:
    """POT's value on the tape, with its envelope gradient."""
    cost = 0.5 * ot.dist(x, y)
    return ot.solve(cost, reg=epsilon, tol=tolerance, max_iter=20000, grad="envelope").value


def ott_jax(
    x: Tensor, y: Tensor, epsilon: float | Tensor, argnums: tuple[int, ...] = (0,), **options: Any
) -> Run | None:
    """OTT's solver under jit, and vmap where there is an epsilon (B,) for each problem; None without jax or ott."""
    try:
        import jax
        import jax.numpy as jnp
        from ott.geometry import costs, pointcloud
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn as ott_sinkhorn
    except ImportError:
        return None
    inputs = [jnp.asarray(part.numpy()) for part in (x, y)]
    compiled: dict[float, Any] = {}

    def make(threshold: float) -> Any:
        def value(points: Any, others: Any, epsilon: Any) -> Any:
            geometry = pointcloud.PointCloud(points, others, cost_fn=costs.SqEuclidean(), epsilon=2 * epsilon)
            solver = ott_sinkhorn.Sinkhorn(threshold=threshold, max_iterations=20000, **options)
            return 0.5 * solver(linear_problem.LinearProblem(geometry)).reg_ot_cost

        both = jax.value_and_grad(value, argnums=argnums)
        if isinstance(epsilon, Tensor):
            return partial(jax.jit(jax.vmap(both)), epsilon=jnp.asarray(epsilon.numpy()))
        return jax.jit(partial(both, epsilon=epsilon))

    def run(threshold: float) -> tuple[Any, ...]:
        if threshold not in compiled:
            compiled[threshold] = make(threshold)
        value, gradients = jax.block_until_ready(compiled[threshold](*inputs))
        return value, *gradients

    return run


def floor(x: Tensor, y: Tensor, epsilon: float, iterations: int) -> Callable[[], None]:
    """The least a dense solver can do: two products with N x N x D work, two exponentials, the matrix-vector ones."""
    v = torch.full((len(y),), 1.0 / len(y))

    def run() -> None:
        kernel = (x @ y.T).mul_(1e-3 / epsilon)
        kernel.exp_()
        for _ in range(iterations + 1):
            u = torch.mv(kernel, v)
            torch.mv(kernel.T, u)
        kernel.clamp_(0.0, 1.0).exp_()
        kernel @ y

    return run


def mean_cost(x: Tensor, y: Tensor) -> float:
    """Mean of half the squared distance, in float64."""
    return float((0.5 * torch.cdist(x.double(), y.double()) ** 2).mean())
