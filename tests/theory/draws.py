"""What several theory tests draw and measure."""

import torch


def normal(*shape, seed=0):
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(d, seed=0):
    """A random orthogonal matrix, (d, d), float64."""
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def positive_definite(d, seed=0):
    """A random symmetric matrix with eigenvalues from 0.5 to 2, (d, d), float64."""
    basis = orthogonal(d, seed)
    return (basis * torch.linspace(0.5, 2.0, d, dtype=torch.float64)) @ basis.T


def power(matrix, exponent):
    """A power of a symmetric positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0) ** exponent) @ vectors.T


def grid(scale, points=121):
    """A centred normal law with this standard deviation as points (N, 1) on a line and their weights (N,)."""
    line = torch.linspace(-6, 6, points, dtype=torch.float64)
    return scale * line[:, None], torch.softmax(-line.square() / 2, dim=0)
