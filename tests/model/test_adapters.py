"""Adapters: exact inverses, honest labels, and structure that survives training, precision and disk."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from otmerge_hf import OTMergeModel
from otmerge_hf.model.adapters import (
    CouplingAdapter,
    LinearAdapter,
    MLPAdapter,
    MongeAdapter,
    OrthogonalAdapter,
    mlp,
)


BOUND = {torch.float32: 1e-5, torch.float64: 1e-12}


def build(kind, in_dim, out_dim, decoder=False, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    decoder = mlp(out_dim, 8, in_dim) if decoder else None
    if kind in ("mlp", "coupling"):
        made = {"mlp": MLPAdapter, "coupling": CouplingAdapter}[kind](in_dim, out_dim, 24, decoder)
    else:
        made = {"linear": LinearAdapter, "orthogonal": OrthogonalAdapter, "monge": MongeAdapter}[kind](
            in_dim, out_dim, decoder
        )
    # generic weights; those of a coupling as a model starts them: what its networks magnify, its inverse magnifies
    for parameter in made.parameters():
        std = parameter.shape[-1] ** -0.5 if kind == "coupling" else 0.5
        torch.nn.init.normal_(parameter, std=std)
    return made.to(dtype)


def orthonormal_error(adapter):
    weight = adapter.weight.detach()
    gram = weight.T @ weight if adapter.out_dim >= adapter.in_dim else weight @ weight.T
    return (gram - torch.eye(len(gram), dtype=gram.dtype)).abs().max().item()


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(
    ("kind", "in_dim", "out_dim"),
    [("orthogonal", 48, 48), ("orthogonal", 48, 64), ("monge", 48, 48), ("coupling", 48, 48), ("linear", 48, 96)],
)
def test_inverse_undoes_the_map(kind, in_dim, out_dim, dtype):
    adapter = build(kind, in_dim, out_dim, dtype=dtype)
    x = torch.randn(5, 7, in_dim, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        back = adapter.inverse(adapter(x))
    assert back.dtype == dtype
    assert (back - x).norm() / x.norm() <= BOUND[dtype]
    if in_dim == out_dim:  # exact: the other way round too
        with torch.no_grad():
            there = adapter(adapter.inverse(x))
        assert (there - x).norm() / x.norm() <= BOUND[dtype]


def test_square_linear_inverse_is_as_good_as_its_conditioning():
    adapter = build("linear", 48, 48)
    x = torch.randn(100, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        error = (adapter.inverse(adapter(x)) - x).norm() / x.norm()
        condition = torch.linalg.cond(adapter.map.weight)
    assert error <= 1e-7 * condition


@pytest.mark.parametrize(
    ("kind", "in_dim", "out_dim", "decoder", "label"),
    [
        ("linear", 8, 8, False, "exact"),
        ("linear", 8, 12, False, "left-inverse"),
        ("linear", 12, 8, False, "none"),
        ("linear", 12, 8, True, "learned"),
        ("orthogonal", 8, 8, False, "exact"),
        ("orthogonal", 8, 12, True, "left-inverse"),
        ("orthogonal", 12, 8, False, "none"),
        ("orthogonal", 12, 8, True, "learned"),
        ("monge", 8, 8, False, "exact"),
        ("coupling", 8, 8, True, "exact"),
        ("mlp", 8, 8, False, "none"),
        ("mlp", 8, 12, True, "learned"),
    ],
)
def test_labels_say_what_the_inverse_is(kind, in_dim, out_dim, decoder, label):
    adapter = build(kind, in_dim, out_dim, decoder)
    assert adapter.invertibility == label
    z = torch.randn(3, out_dim)
    if label == "learned":
        assert torch.equal(adapter.inverse(z), adapter.decoder(z))
    elif kind == "mlp":
        with pytest.raises(ValueError, match="has no inverse without a decoder; set `reconstruction=True`"):
            adapter.inverse(z)
    else:
        assert adapter.inverse(z).shape == (3, in_dim)


def test_orthogonal_going_down_projects():
    adapter = build("orthogonal", 12, 8, dtype=torch.float64)
    torch.nn.init.zeros_(adapter.bias)
    x = torch.randn(5, 12, dtype=torch.float64)
    once = adapter.inverse(adapter(x))
    torch.testing.assert_close(adapter.inverse(adapter(once)), once)  # a projection
    torch.testing.assert_close(((x - once) * once).sum(-1), torch.zeros(5, dtype=torch.float64))  # and orthogonal


def test_orthogonal_going_up_keeps_distances():
    adapter = build("orthogonal", 8, 12, dtype=torch.float64)
    x = torch.randn(6, 8, dtype=torch.float64)
    torch.testing.assert_close(torch.cdist(adapter(x), adapter(x)), torch.cdist(x, x))


@pytest.mark.parametrize("shape", [(9, 9), (12, 9)])
def test_orthonormal_columns_are_taken_as_they_are(shape):
    """A fit in closed form can be written into the parameter."""
    columns = torch.linalg.qr(torch.randn(*shape, dtype=torch.float64)).Q
    columns[:, 0] *= -1  # a reflection stays one
    adapter = OrthogonalAdapter(shape[1], shape[0]).double()
    with torch.no_grad():
        adapter.free.copy_(columns)
    torch.testing.assert_close(adapter.weight, columns)


def test_gradient_of_the_orthogonal_map():
    adapter = build("orthogonal", 3, 4, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)

    def forward(free):
        return torch.func.functional_call(adapter, {"free": free}, x)

    assert torch.autograd.gradcheck(forward, adapter.free.detach().requires_grad_())


@pytest.mark.parametrize("steps", [500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("in_dim", "out_dim"), [(6, 6), (6, 8), (8, 6)])
def test_orthogonal_after_many_steps_of_adamw_with_weight_decay(in_dim, out_dim, steps):
    adapter = build("orthogonal", in_dim, out_dim)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=3e-3, weight_decay=0.1)
    generator = torch.Generator().manual_seed(2)
    x, target = (torch.randn(16, dim, generator=generator) for dim in (in_dim, out_dim))
    start = adapter.weight.detach().clone()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = (adapter(x) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
    assert (adapter.weight - start).abs().max() > 0.1  # it did learn
    assert orthonormal_error(adapter) <= 1e-5


def test_monge_is_symmetric_positive_definite():
    adapter = build("monge", 8, 8, dtype=torch.float64)
    with torch.no_grad():
        matrix = adapter(torch.eye(8, dtype=torch.float64)) - adapter.bias
    torch.testing.assert_close(matrix, matrix.T)
    values = torch.linalg.eigvalsh(matrix)
    assert values.min() > 0
    torch.testing.assert_close(values, adapter.log_scale.detach().exp().sort().values)


@pytest.mark.parametrize(
    ("kind", "dims", "said"),
    [
        ("monge", (8, 12), "`monge` adapter keeps the width: got 8 features and shared_dim 12"),
        ("coupling", (8, 12), "`coupling` adapter keeps an even width: got 8 features and shared_dim 12"),
        ("coupling", (9, 9), "`coupling` adapter keeps an even width: got 9 features and shared_dim 9"),
    ],
)
def test_width_that_cannot_be_kept(kind, dims, said):
    with pytest.raises(ValueError, match=said):
        build(kind, *dims)


def test_width_error_reaches_the_user_of_a_model(merge):
    with pytest.raises(ValueError, match="`coupling` adapter keeps an even width: got 16 features and shared_dim 32"):
        merge(adapter_type="coupling", shared_dim=32)


@pytest.mark.parametrize("shared_dim", [16, 24, 8])
def test_bfloat16_checkpoint_is_still_orthogonal(merge, tmp_path, shared_dim):
    model = merge(cls=OTMergeModel, adapter_type="orthogonal", shared_dim=shared_dim)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, torch.float32):
        again = OTMergeModel.from_pretrained(tmp_path, dtype=dtype)
        assert again.dtype == dtype
        for adapter in (again.context_adapter, again.query_adapter):
            assert orthonormal_error(adapter) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["linear", "mlp", "orthogonal", "monge", "coupling"])
def test_parameters_that_a_checkpoint_lacks_start_anew(merge, tmp_path, kind, dtype):
    """Memory that nothing has written to would pass for weights."""
    model = merge(cls=OTMergeModel, adapter_type=kind)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = [n for n in weights if "adapter" in n or "standardizer" in n or n.startswith("logit_scale")]
    save_file({n: w for n, w in weights.items() if n not in lost}, tmp_path / "model.safetensors", {"format": "pt"})
    again, info = OTMergeModel.from_pretrained(tmp_path, output_loading_info=True, dtype=dtype)
    assert set(info["missing_keys"]) == set(lost)
    fresh = OTMergeModel(model.config)
    for name in lost:
        found, expected = again.state_dict()[name].float(), fresh.state_dict()[name].float()
        assert torch.isfinite(found).all(), name
        # random ones have the spread of fresh ones, constant ones are equal to them
        torch.testing.assert_close(found.std(correction=0), expected.std(correction=0), atol=0.05, rtol=0.3, msg=name)
        torch.testing.assert_close(found.mean(), expected.mean(), atol=0.15, rtol=0.02, msg=name)
    if kind == "orthogonal":
        assert orthonormal_error(again.context_adapter) <= 1e-5


def test_weights_are_made_by_the_seed_alone(merge):
    first, second = (merge(cls=OTMergeModel, adapter_type="orthogonal", seed=5) for _ in range(2))
    assert torch.equal(first.context_adapter.free, second.context_adapter.free)
    assert not torch.equal(first.context_adapter.free, first.query_adapter.free)
