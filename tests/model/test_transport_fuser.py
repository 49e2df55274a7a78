"""The fuser that has no attention of its own: a transport plan between the shared tokens."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForVisualQuestionAnswering

from otmerge_hf.model.fusers import TransportFuser, build_fuser
from otmerge_hf.transport import sinkhorn_batch


Q_MASK = (torch.arange(6) < torch.tensor([[6], [4], [2]])).long()
C_MASK = (torch.arange(9) < torch.tensor([[5], [9], [7]])).long()


def tokens():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
    context = torch.randn(3, 9, 8, generator=generator, dtype=torch.float64)
    return query, context


@pytest.fixture
def fuser():
    made = build_fuser(SimpleNamespace(fuser_type="transport")).double()
    with torch.no_grad():
        made.init_weights()
    assert isinstance(made, TransportFuser)
    return made


def test_plan_is_that_of_the_transport_package(fuser, monkeypatch):
    """Of unit vectors 1 - cos is half the squared distance; there the plan is converged, here after enough rounds."""
    monkeypatch.setattr(TransportFuser, "ITERATIONS", 3000)
    query, context = tokens()
    (plan,) = fuser(query, context, Q_MASK, C_MASK).attentions
    unit = [torch.nn.functional.normalize(side, dim=-1) for side in (query, context)]
    options = {"epsilon": 0.05, "epsilon_scale": "absolute", "slack": 1.0, "tol": 1e-12}
    wanted = sinkhorn_batch(*unit, x_mask=Q_MASK.bool(), y_mask=C_MASK.bool(), **options).plan()
    assert plan.shape == (3, 1, 6, 9)
    torch.testing.assert_close(plan[:, 0], wanted, rtol=1e-4, atol=1e-6)  # weights and epsilon pass through float32


def test_vector_is_what_the_plan_brings(fuser):
    query, context = tokens()
    fused = fuser(query, context, Q_MASK, C_MASK)
    for row in range(3):
        length = int(Q_MASK[row].sum())
        brought = query[row, :length].mean(0)
        for i in range(6):
            for j in range(9):
                brought = brought + fused.attentions[0][row, 0, i, j] * context[row, j]
        wanted = (brought - brought.mean()) / (brought.var(unbiased=False) + 1e-5).sqrt()
        torch.testing.assert_close(fused.vector[row], wanted)
    assert torch.equal(fused.hidden_states[0], query)


def test_mass_stays_behind_where_nothing_is_near(fuser):
    """The first query token is a context token, the second points away from all of them."""
    query, context = torch.eye(4)[None, :2].clone(), torch.eye(4)[None, :1]
    query[0, 1] = -context[0, 0]
    (plan,) = fuser(query.double(), context.double()).attentions
    near, far = plan[0, 0].sum(-1).tolist()
    assert near > 0.45  # of its half
    assert far < 0.2
    assert far < 0.4 * near


def test_a_plan_carries_mass_between_real_tokens_alone(fuser):
    query, context = tokens()
    near = query[:, [0, 1, 2, 3, 4, 5, 0, 1, 2]] + 0.01 * context
    for source in (context, near):
        (plan,) = fuser(query, source, Q_MASK, C_MASK).attentions
        assert (plan >= 0).all()
        assert (plan.sum((2, 3)) > 0.3).all()
        assert (plan.sum((2, 3)) < 1.05).all()
        assert not plan[:, 0][Q_MASK == 0].any()
        assert not plan[:, 0].mT[C_MASK == 0].any()


def test_padding_does_not_matter(fuser):
    query, context = tokens()
    wanted = fuser(query, context, Q_MASK, C_MASK).vector
    junk = torch.full((3, 4, 8), 7.0, dtype=torch.float64)
    more = torch.zeros(3, 4, dtype=torch.long)
    longer = [torch.cat([side, junk], dim=1) for side in (query, context)]
    masks = [torch.cat([mask, more], dim=1) for mask in (Q_MASK, C_MASK)]
    torch.testing.assert_close(fuser(*longer, *masks).vector, wanted, rtol=1e-12, atol=1e-12)
    emptied = C_MASK.clone()
    emptied[1] = 0  # a context of padding alone does not spoil the others
    vector = fuser(query, context, Q_MASK, emptied).vector
    assert vector.isfinite().all()
    torch.testing.assert_close(vector[[0, 2]], wanted[[0, 2]])


def test_gradients_are_those_of_finite_differences(fuser):
    query, context = (side[:, :4].clone().requires_grad_() for side in tokens())
    weights = torch.randn(3, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    log_epsilon = torch.tensor([math.log(0.3)], dtype=torch.float64, requires_grad=True)

    def value(query, context, log_epsilon):
        state = {"log_epsilon": log_epsilon}
        return (torch.func.functional_call(fuser, state, (query, context)).vector * weights).sum()

    assert torch.autograd.gradcheck(value, (query, context, log_epsilon), fast_mode=True)
    value(query, context, log_epsilon).backward()
    assert log_epsilon.grad.abs() > 1e-3


def test_in_a_merge_it_learns_its_temperature_and_nothing_else(merge, batch):
    model = merge(fuser_type="transport").train()
    assert model.fuser.log_epsilon.item() == pytest.approx(math.log(0.05))
    assert [name for name, _ in model.fuser.named_parameters()] == ["log_epsilon"]
    assert not list(model.positions.parameters())  # positions would move the tokens whose distances the plan reads
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert model.fuser.log_epsilon.grad.abs() > 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attentions_are_there_whatever_the_implementation(merge, batch, attention):
    model = merge(fuser_type="transport")
    model.set_attn_implementation(attention)
    with torch.no_grad():
        (plan,) = model(**batch, output_attentions=True).attentions
    assert plan.shape == (3, 1, 7, 17)
    assert not plan[:, 0][batch["attention_mask"] == 0].any()


def test_half_precision_and_reloading(merge, batch, tmp_path):
    model = merge(fuser_type="transport")
    with torch.no_grad():
        model.fuser.log_epsilon.fill_(-1.5)
        wanted = model(**batch).logits
        model.save_pretrained(tmp_path)
        again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
        assert torch.equal(again(**batch).logits, wanted)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(**batch).logits
        half = again.bfloat16()(**batch | {"pixel_values": batch["pixel_values"].bfloat16()}).logits
    for logits in (mixed, half):
        assert logits.isfinite().all()
        assert (logits - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_compiles_into_one_graph(fuser):
    given = (*tokens(), Q_MASK, C_MASK)
    compiled = torch.compile(fuser, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given).vector, fuser(*given).vector)
