"""What adapters give back, against exact inverses and hand-made losses."""

import pytest
import torch

from otmerge_hf.analysis import cycle_error, reconstruction_errors, relative_error
from otmerge_hf.model.adapters import CouplingAdapter, LinearAdapter, MLPAdapter, MongeAdapter, OrthogonalAdapter, mlp


BOUND = {torch.float32: 1e-5, torch.float64: 1e-12}
WIDTH = 64


def drawn(adapter, dtype=torch.float64):
    """With generic weights; a coupling's as a model starts them: what its networks magnify, its inverse magnifies."""
    torch.manual_seed(0)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return adapter.to(dtype)


def points(width, dtype=torch.float64, rows=50, seed=1):
    return torch.randn(rows, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(
    "adapter",
    [
        OrthogonalAdapter(WIDTH, WIDTH),
        MongeAdapter(WIDTH, WIDTH),
        CouplingAdapter(WIDTH, WIDTH, 2 * WIDTH),
        OrthogonalAdapter(WIDTH, WIDTH + 32),
        LinearAdapter(WIDTH, 2 * WIDTH),
    ],
    ids=["orthogonal", "monge", "coupling", "orthogonal up", "linear up"],
)
def test_inverses_are_exact(adapter, dtype):
    errors = reconstruction_errors(drawn(adapter, dtype), points(WIDTH, dtype))
    assert errors.inverse <= BOUND[dtype]
    assert errors.decoder is None


def test_no_way_back_is_claimed_that_is_none():
    assert reconstruction_errors(drawn(OrthogonalAdapter(8, 4)), points(8)) == (None, None)
    assert reconstruction_errors(drawn(MLPAdapter(8, 8, 16)), points(8)) == (None, None)


def test_decoder_error_by_hand():
    adapter = drawn(LinearAdapter(8, 4, mlp(4, 8, 8)))
    torch.nn.init.zeros_(adapter.decoder[2].weight)
    torch.nn.init.zeros_(adapter.decoder[2].bias)
    assert reconstruction_errors(adapter, points(8)) == (None, 1.0)  # always the mean
    assert relative_error(torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 4.0]])) == pytest.approx(0.8)


def test_both_ways_of_one_adapter():
    errors = reconstruction_errors(drawn(OrthogonalAdapter(8, 8, mlp(8, 8, 8))), points(8))
    assert errors.inverse < 1e-12
    assert errors.decoder > 0.1


def test_cycle_through_a_narrower_side_loses_what_does_not_fit():
    """x goes whole into 12 numbers; the other side's inverse keeps the 6 of them that it spans."""
    there, other, x = drawn(OrthogonalAdapter(12, 12)), drawn(OrthogonalAdapter(6, 12)), points(12)
    span = there.weight.T @ other.weight  # (12, 6): the kept subspace, seen from x
    moved = x + (there.bias - other.bias) @ there.weight  # about the other side's origin
    kept = moved @ span @ span.T - (there.bias - other.bias) @ there.weight
    assert cycle_error(there, other, x) == pytest.approx(relative_error(kept.detach(), x), rel=1e-9)
    assert cycle_error(other, there, points(6)) < 1e-12


def test_cycle_through_the_nearest_candidate():
    there, x = drawn(OrthogonalAdapter(6, 6)), points(6)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    assert cycle_error(there, there, x, candidates=x[order]) < 1e-12
    (one,) = points(6, rows=1, seed=3)
    expected = relative_error(one.expand(50, -1), x)
    assert cycle_error(there, there, x, candidates=one[None]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relative_error(torch.ones(2, 3), torch.ones(3, 2)), "one shape"),
        (lambda: relative_error(torch.ones(2, 3), torch.zeros(2, 3)), "x is zero"),
        (lambda: reconstruction_errors(LinearAdapter(4, 4), torch.ones(2, 3)), "x has 3 features, expected 4"),
        (lambda: cycle_error(LinearAdapter(4, 4), LinearAdapter(4, 4), torch.ones(2, 4), torch.ones(2, 5)),
         "candidates has 5 features, expected 4"),
        (lambda: cycle_error(LinearAdapter(4, 4), MLPAdapter(4, 4, 4), torch.ones(2, 4)), "no inverse"),
    ],
)  # fmt: skip
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
