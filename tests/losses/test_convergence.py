"""Whoever watches hears of every solver that a loss ran, and of those that did not converge."""

import pytest
import torch

from otmerge_hf.losses import gromov_loss, klot_loss, paired_loss, prototype_loss, sinkhorn_loss, watch_convergence


X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
MOMENTS = torch.stack([X, X.square() + 1]), torch.stack([Y, Y.square() + 1])
LOSSES = {
    "sinkhorn": (lambda epsilon: sinkhorn_loss(X, Y, epsilon), 1),
    "prototype": (lambda epsilon: prototype_loss(*MOMENTS, epsilon), 1),
    "klot": (lambda epsilon: klot_loss(X @ Y.T, Y @ X.T, epsilon, epsilon), 2),
    "gromov": (lambda epsilon: gromov_loss(X, Y, epsilon, max_iterations=3), 3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_solve_is_noted(name):
    loss, solves = LOSSES[name]
    with watch_convergence() as flags:
        loss(0.5)
    assert [bool(flag) for flag in flags] == [True] * solves
    with watch_convergence() as flags:
        loss(1e-8)
    assert len(flags) == solves
    assert not all(flags)


def test_nothing_is_noted_outside_and_without_transport():
    with watch_convergence() as outer:
        with watch_convergence() as inner:
            sinkhorn_loss(X, Y)
        paired_loss(X, Y)
        sinkhorn_loss(X, Y, backend="geomloss")
    sinkhorn_loss(X, Y)
    assert (len(inner), len(outer)) == (1, 0)
