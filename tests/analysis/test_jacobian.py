"""Spectra of Jacobians against finite differences, NumPy and closed forms."""

import numpy as np
import pytest
import torch

from otmerge_hf.analysis import JacobianSpectrum, jacobian, jacobian_spectrum
from otmerge_hf.model.adapters import CouplingAdapter, LinearAdapter, MLPAdapter, MongeAdapter, OrthogonalAdapter


def drawn(adapter):
    torch.manual_seed(0)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return adapter.double()


X = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "adapter", [MLPAdapter(8, 5, 16), MLPAdapter(8, 11, 16), CouplingAdapter(8, 8, 16)], ids=["down", "up", "coupling"]
)
def test_against_finite_differences(adapter, monkeypatch):
    monkeypatch.setattr(jacobian, "_CHUNK_NUMBERS", 4 * 8 * adapter.out_dim * 4)  # four rows at a time
    drawn(adapter)
    found = jacobian_spectrum(adapter, X).singular_values
    with torch.no_grad():
        step = 1e-6 * torch.eye(8, dtype=torch.float64)
        columns = [(adapter(X + e) - adapter(X - e)) / 2e-6 for e in step]
    expected = np.linalg.svd(torch.stack(columns, dim=2).numpy(), compute_uv=False)
    assert found.numpy() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("adapter", [LinearAdapter(8, 5), OrthogonalAdapter(8, 12), MongeAdapter(8, 8)])
def test_the_short_way_of_affine_maps_gives_the_same_numbers(adapter):
    drawn(adapter)
    short = jacobian_spectrum(adapter, X).singular_values
    long = jacobian_spectrum(lambda x: adapter(x), X).singular_values  # no adapter: every row by itself
    assert torch.allclose(short, long, rtol=1e-12)
    assert short.shape == (6, min(8, adapter.out_dim))


def test_an_inverse_has_inverse_singular_values():
    adapter = drawn(CouplingAdapter(8, 8, 16))
    with torch.no_grad():
        z = adapter(X)
    there, back = jacobian_spectrum(adapter, X), jacobian_spectrum(adapter.inverse, z)
    assert torch.allclose(there.singular_values, 1 / back.singular_values.flip(1))


def test_measures_by_hand():
    spectrum = JacobianSpectrum(torch.tensor([[2.0, 2.0, 0.0], [4.0, 1.0, 1.0]], dtype=torch.float64), in_dim=3)
    assert spectrum.condition.tolist() == [float("inf"), 4.0]
    assert spectrum.rank().tolist() == [2, 3]
    assert spectrum.rank(0.5).tolist() == [2, 1]
    p = np.array([16, 1, 1]) / 18
    assert spectrum.effective_dimension.tolist() == pytest.approx([2.0, np.exp(-(p * np.log(p)).sum())])
    expected = np.quantile([2, 2, 0, 4, 1, 1], (0.0, 0.3, 1.0))
    assert spectrum.quantiles((0.0, 0.3, 1.0)).numpy() == pytest.approx(expected)


def test_a_lost_direction_is_seen():
    adapter = drawn(LinearAdapter(8, 8))
    with torch.no_grad():
        adapter.map.weight[3] = adapter.map.weight[2]
    assert jacobian_spectrum(adapter, X).rank().tolist() == [7] * 6


def test_refusals():
    with pytest.raises(ValueError, match="x has 8 features, expected 5"):
        jacobian_spectrum(LinearAdapter(5, 5), X)
    with pytest.raises(ValueError, match="NaN or infinity, first in row 0"):
        jacobian_spectrum(LinearAdapter(8, 8), X * float("nan"))
