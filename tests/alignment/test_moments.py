"""Moments of pairs, against sums by hand, where rows come often and where they come in chunks."""

from dataclasses import replace

import pytest
import torch

from otmerge_hf.alignment import moments
from otmerge_hf.alignment.moments import paired_moments


@pytest.mark.parametrize("more_texts", [True, False])
@pytest.mark.parametrize("chunk", [2, 3, 1000])
@pytest.mark.parametrize("moments_from", ["pairs", "all"])
def test_rows_count_as_often_as_pairs_name_them(monkeypatch, more_texts, chunk, moments_from):
    monkeypatch.setattr(moments, "CHUNK_ROWS", chunk)
    draw = torch.Generator().manual_seed(0)
    sides = [torch.randn(9, 4, generator=draw), torch.randn(30, 3, generator=draw)]
    pairs = torch.stack([torch.randint(0, 7, (25,), generator=draw), torch.randperm(30, generator=draw)[:25]], dim=1)
    if not more_texts:
        sides, pairs = sides[::-1], pairs.flip(1)
    found = paired_moments(*sides, pairs, moments_from=moments_from)
    named = [side[column].double() for side, column in zip(sides, pairs.T, strict=True)]
    within = named if moments_from == "pairs" else [side.double() for side in sides]
    means = [side.mean(dim=0) for side in within]
    torch.testing.assert_close(list(found.means), means)
    expected = [(side - mean).T @ (side - mean) / len(side) for side, mean in zip(within, means, strict=True)]
    torch.testing.assert_close(list(found.covariances), expected)
    torch.testing.assert_close(found.cross, (named[0] - means[0]).T @ (named[1] - means[1]) / len(pairs))
    assert found.count == 25


def test_ridges_share_a_decomposition_and_give_what_each_gives_alone():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 6, generator=generator), torch.randn(30, 4, generator=generator)
    made = paired_moments(x, y, torch.arange(30)[:, None].expand(-1, 2))
    for ridge in (0.0, 0.1, 3.0):
        for side in (0, 1):
            alone = replace(made).whitening(side, ridge)  # a copy, without the decompositions of this one
            torch.testing.assert_close(made.whitening(side, ridge), alone)
    assert len(made._spectra) == 2
    few = paired_moments(x, y, torch.arange(3)[:, None].expand(-1, 2))
    for ridge in (0.1, 0.0, 0.1):  # without a ridge the decomposition of few rows will not do
        alone = replace(few).whitening(0, ridge)
        torch.testing.assert_close(few.whitening(0, ridge, rank=3), alone, rtol=1e-4, atol=1e-6)
    changed = replace(made, covariances=tuple(4 * torch.eye(len(side)).to(side) for side in made.covariances))
    torch.testing.assert_close(changed.whitening(0, 0.0), torch.eye(6).double() / 2)
