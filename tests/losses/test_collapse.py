"""What each term says to embeddings that are all one point, and whether it leads away from there."""

import pytest
import torch

from otmerge_hf.losses import (
    ContrastiveTerm,
    GromovTerm,
    KLOTTerm,
    MMDTerm,
    PairedTerm,
    PrototypeTerm,
    SinkhornTerm,
    StructureTerm,
    Teacher,
    VarianceTerm,
)


def klot():
    term = KLOTTerm()
    generator = torch.Generator().manual_seed(0)
    term.teacher = Teacher(
        torch.randn(4, 6, generator=generator), torch.zeros(4), torch.randn(4, 5, generator=generator), torch.zeros(4)
    )
    return term


ATTRACTED = {
    "paired": PairedTerm,
    "sinkhorn": SinkhornTerm,
    "mmd": MMDTerm,
    "gromov": GromovTerm,
    "prototype": lambda: PrototypeTerm(prototypes=2),
}
GUARDING = {
    "contrastive": ContrastiveTerm,
    "siglip": lambda: ContrastiveTerm(variant="siglip"),
    "klot": klot,
    "structure": StructureTerm,
    "variance": VarianceTerm,
}


def constant(rows=8, dim=4):
    return torch.full((rows, dim), 0.3).requires_grad_()


def spread(points):
    directions = torch.nn.functional.normalize(points.detach(), dim=1)
    return (directions - directions.mean(0)).norm(dim=1).mean().item()


@pytest.mark.parametrize("name", ATTRACTED | GUARDING)
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_collapsed_embeddings_give_finite_values_and_gradients(name, scale, make_outputs):
    context, query = constant(), constant()
    value = (ATTRACTED | GUARDING)[name]()(make_outputs(context=scale * context, query=scale * query))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(context.grad).all()
    assert torch.isfinite(query.grad).all()


@pytest.mark.parametrize("name", ATTRACTED)
def test_collapse_is_the_minimum_of_terms_that_only_attract(name, make_outputs):
    """Documented weakness: they need company."""
    outputs = make_outputs(context=constant(), query=constant())
    assert ATTRACTED[name]()(outputs).item() == pytest.approx(0.0, abs=1e-6)
    assert VarianceTerm()(outputs).item() > 0.9


@pytest.mark.parametrize("name", GUARDING)
def test_guarding_terms_lead_out_of_collapse(name, make_outputs):
    generator = torch.Generator().manual_seed(0)
    sides = [0.3 + 1e-2 * torch.randn(8, 4, generator=generator) for _ in range(2)]
    before, term = spread(sides[0]), GUARDING[name]()
    optimizer = torch.optim.Adam([side.requires_grad_() for side in sides], lr=0.03)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = term(make_outputs(context=sides[0], query=sides[1]))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.9 * values[0]
    assert min(spread(side) for side in sides) > 5 * before


@pytest.mark.parametrize("name", ATTRACTED | GUARDING)
def test_autocast_does_not_coarsen_a_term(name, make_outputs):
    term = (ATTRACTED | GUARDING)[name]
    outputs = make_outputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = term()(outputs)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, term()(outputs), rtol=1e-5, atol=1e-6)
