"""Section 7 of docs/theory.md: what a solve costs, counted rather than timed."""

from math import log

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from otmerge_hf.transport import sinkhorn, sliced_wasserstein, wasserstein2

from .draws import grid, normal


class Touched(TorchDispatchMode):
    """Counts the numbers that torch operations read and write."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.count += sum(leaf.numel() for leaf in tree_leaves((args, out)) if isinstance(leaf, torch.Tensor))
        return out


def touched(run, *args, **options):
    with Touched() as counter:
        run(*args, **options)
    return counter.count


def an_iteration(n):
    """Numbers touched by one iteration on n points."""
    x, y = normal(n, 4, seed=1), normal(n, 4, seed=2)
    few, many = (touched(sinkhorn, x, y, epsilon=0.05, tol=1e-15, max_iterations=k) for k in (20, 40))
    return (many - few) / 20


@pytest.mark.filterwarnings("ignore:Sinkhorn stopped")
def test_an_iteration_touches_every_pair_of_points():
    assert an_iteration(512) / an_iteration(256) == pytest.approx(4, rel=0.1)
    assert an_iteration(512) > 2 * 512**2  # two products with the kernel


def test_slices_and_batches_touch_linearly_many_numbers():
    def sliced(n):
        return touched(sliced_wasserstein, normal(n, 4, seed=1), normal(n, 4, seed=2), num_projections=16)

    def batched(n):
        x, y = normal(n // 64, 64, 4, seed=1), normal(n // 64, 64, 4, seed=2)
        return touched(sinkhorn, x, y, epsilon=1.0, tol=1e-2)

    assert sliced(2048) / sliced(1024) == pytest.approx(2, rel=0.05)
    assert batched(2048) / batched(1024) == pytest.approx(2, rel=0.3)
    whole = touched(sinkhorn, normal(2048, 4, seed=1), normal(2048, 4, seed=2), epsilon=1.0, tol=1e-2)
    assert whole > 8 * batched(2048)


def test_slices_measure_something_smaller():
    generator = torch.Generator().manual_seed(0)
    x, y = normal(50, 6, seed=3), 0.5 * normal(50, 6, seed=4) + 1.0
    slices = sliced_wasserstein(x, y, num_projections=4000, generator=generator)
    assert slices <= wasserstein2(x, y) ** 2 / 6
    shift = torch.arange(6, dtype=torch.float64)
    moved = sliced_wasserstein(x, x + shift, num_projections=5000, generator=generator)
    assert moved == pytest.approx(shift.square().sum().item() / 6, rel=0.05)


def test_the_rank_of_the_kernel_grows_as_epsilon_falls():
    x, y = normal(200, 3, seed=5), normal(200, 3, seed=6)
    cost = torch.cdist(x, y).square() / 2
    assert torch.linalg.matrix_rank(cost) == 3 + 2

    def rank(epsilon):
        """Fewest factors that leave one percent of the kernel."""
        squares = torch.linalg.svdvals(torch.exp(-cost / (epsilon * cost.mean()))).square()
        return int((squares.flip(0).cumsum(0).flip(0) > 1e-4 * squares.sum()).sum())

    ranks = [rank(epsilon) for epsilon in (10.0, 1.0, 0.1)]
    assert ranks[0] < 10
    assert ranks[-1] > 100  # of 200: no saving left
    assert all(3 * few < more for few, more in zip(ranks, ranks[1:], strict=False))


def marginal_errors(cost, a, b, epsilon, count):
    """L1 error of the column marginal in each iteration of plain Sinkhorn."""
    kernel = torch.exp(-cost / epsilon)
    kernel[kernel < 1e-300] = 0  # no denormal numbers: they are slow
    errors, v = [], torch.ones_like(b)
    for _ in range(count):
        u = a / (kernel @ v)
        columns = kernel.T @ u
        errors.append((columns * v - b).abs().sum().item())
        v = b / columns
    return errors


def test_iterations_needed_grow_like_one_over_epsilon():
    s, t = 1.0, 1.0
    (x, a), (y, b) = grid(s, 81), grid(t, 81)
    y = y + 1.0
    cost = torch.cdist(x, y).square() / 2
    needed = []
    for epsilon in (0.8, 0.4, 0.2, 0.1):
        errors = marginal_errors(cost, a, b, epsilon, 120)
        plan = sinkhorn(x, y, a=a, b=b, epsilon=epsilon, epsilon_scale="absolute", tol=1e-6).plan()
        second = torch.linalg.svdvals(a.rsqrt()[:, None] * plan * b.rsqrt())[1].item()
        covariance = (-epsilon + (epsilon**2 + 4 * s**2 * t**2) ** 0.5) / 2
        assert second == pytest.approx(covariance / (s * t), rel=1e-3)
        last = next(k for k, error in enumerate(errors) if error < 1e-5 or k == 119)
        assert errors[last] / errors[last - 1] == pytest.approx(second**2, rel=0.02)
        needed.append(log(10) / -log(second**2))
    for before, after in zip(needed, needed[1:], strict=False):
        assert after / before == pytest.approx(2, rel=0.2)


def test_iterations_stay_below_the_bound():
    generator = torch.Generator().manual_seed(1)
    for epsilon in (0.3, 0.1, 0.03):
        cost = torch.rand(40, 40, generator=generator, dtype=torch.float64)
        a = b = torch.full((40,), 1 / 40, dtype=torch.float64)
        errors = marginal_errors(cost, a, b, epsilon, 400)
        for tol in (0.1, 0.01):
            radius = cost.max().item() / epsilon - log(1 / 40)
            half_steps = 2 * next(k for k, error in enumerate(errors) if error < tol)
            assert half_steps <= 2 + 4 * radius / tol
