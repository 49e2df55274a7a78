"""The linear path: each part against a slow computation in float64, and on its way through a saved merge."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForVisualQuestionAnswering

from otmerge_hf import OTMergeForQuestionAnswering
from otmerge_hf.model.configuration_otmerge import LINEAR_PATHS
from otmerge_hf.model.linear_path import LinearPath
from otmerge_hf.model.outputs_otmerge import EmbeddedSide
from otmerge_hf.transport import sinkhorn_batch


LENGTHS = {"query": [7, 5, 3], "context": [4, 1, 6]}
WIDTHS = {"query": 5, "context": 7, "cosine": 1, "late_interaction": 1, "transport": 2, "answers": 3}


def sides(extra=0, dtype=torch.float64):
    """Query and context of three rows: random tokens, the embedding apart from them, `extra` padding tokens."""
    made = {}
    for number, (side, lengths) in enumerate(LENGTHS.items()):
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randn(3, 7, WIDTHS[side], generator=generator, dtype=torch.float64)
        shared = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
        embeds = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        mask = (torch.arange(7 + extra) < torch.tensor(lengths)[:, None]).long()
        if extra:  # what the padding holds must not matter
            tokens = torch.cat([tokens, torch.full((3, extra, WIDTHS[side]), 50.0)], dim=1)
            shared = torch.cat([shared, shared[:, :extra].flip(1)], dim=1)
        made[side] = EmbeddedSide(tokens.to(dtype), shared.to(dtype), embeds.to(dtype), mask)
    return made


@pytest.fixture
def path():
    widths = {"query": WIDTHS["query"], "context": WIDTHS["context"]}
    config = SimpleNamespace(linear_path=LINEAR_PATHS, num_labels=3, shared_dim=4, feature_dim=widths.get)
    made = LinearPath(config).double()
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return made


def cos(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def by_hand(path, query, context):
    """Every part of one row without padding, by loops over its tokens."""
    cosines = torch.tensor([[cos(q, c) for c in context.shared] for q in query.shared], dtype=torch.float64)
    kernel = torch.exp((cosines - 1) / 0.05)
    u, v = torch.ones(len(kernel), dtype=torch.float64), torch.ones(kernel.shape[1], dtype=torch.float64)
    for _ in range(20):
        v = (1 / len(v)) / (kernel.T @ u)
        u = (1 / len(u)) / (kernel @ v)
    plan = u[:, None] * kernel * v
    carried = sum(
        float(plan[i].sum()) * cos(query.shared[i], (plan[i][:, None] * context.shared).sum(0))
        for i in range(len(plan))
    )
    parts = {
        "query": query.tokens.mean(0).tolist(),
        "context": context.tokens.mean(0).tolist(),
        "cosine": [cos(query.embeds, context.embeds)],
        "late_interaction": [sum(float(row.max()) for row in cosines) / len(cosines)],
        "transport": [float((plan * (1 - cosines)).sum()), carried],
        "answers": [cos(context.embeds, answer) for answer in path.answer_embeds],
    }
    return {name: torch.tensor(part, dtype=torch.float64) for name, part in parts.items()}


def row(side, number, length):
    return EmbeddedSide(side.tokens[number, :length], side.shared[number, :length], side.embeds[number], None)


@pytest.mark.parametrize("name", LINEAR_PATHS)
def test_each_part_against_loops_over_the_real_tokens(path, name):
    given = sides()
    with torch.no_grad():
        measured = path.measure(**given)[name]
        assert measured.shape == (3, WIDTHS[name])
        for number in range(3):
            alone = {side: row(given[side], number, LENGTHS[side][number]) for side in given}
            torch.testing.assert_close(measured[number], by_hand(path, **alone)[name], rtol=1e-6, atol=1e-6)


def test_transport_is_the_plan_of_the_transport_package(path):
    """Unit vectors: 1 - cos is half the squared distance, the package's cost. There the plan is converged."""
    given = sides()
    unit = {side: torch.nn.functional.normalize(part.shared, dim=-1) for side, part in given.items()}
    masks = {f"{name}_mask": given[side].mask.bool() for name, side in (("x", "query"), ("y", "context"))}
    result = sinkhorn_batch(unit["query"], unit["context"], epsilon=0.05, epsilon_scale="absolute", tol=1e-10, **masks)
    cost = 1 - unit["query"] @ unit["context"].mT
    wanted = (result.plan() * cost).sum((1, 2))
    torch.testing.assert_close(path.measure(**given)["transport"][:, 0], wanted, rtol=5e-3, atol=0)


def test_logits_are_the_sum_of_the_parts_through_their_maps(path):
    parts = path.measure(**sides())
    wanted = path.bias + path.answer_scale * parts["answers"]
    for name, part in parts.items():
        if name != "answers":
            wanted = wanted + torch.einsum("bw,lw->bl", part, path.maps[name].weight)
    torch.testing.assert_close(path(**sides()), wanted)
    assert path(**sides()).shape == (3, 3)


@pytest.mark.parametrize("extra", [1, 4])
def test_padding_does_not_matter(path, extra):
    with torch.no_grad():
        torch.testing.assert_close(path(**sides(extra)), path(**sides()), rtol=1e-12, atol=1e-12)


def test_no_mask_is_a_mask_of_ones(path):
    given = sides()
    ones = {side: part._replace(mask=torch.ones(3, 7)) for side, part in given.items()}
    none = {side: part._replace(mask=None) for side, part in given.items()}
    torch.testing.assert_close(path(**none), path(**ones))  # the weights' logarithms are float32
    assert not torch.allclose(path(**none), path(**given))


def test_a_row_that_is_all_padding_is_finite_and_leaves_the_others(path):
    given = sides()
    emptied = given["context"].mask.clone()
    emptied[1] = 0
    logits = path(given["query"], given["context"]._replace(mask=emptied))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[[0, 2]], path(**given)[[0, 2]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LINEAR_PATHS)
def test_gradient_of_each_part(path, name):
    given = sides()

    def measure(*values):
        made = {side: EmbeddedSide(*values[3 * k : 3 * k + 3], given[side].mask) for k, side in enumerate(given)}
        return path.measure(**made)[name]

    leaves = [value.clone().requires_grad_() for side in given.values() for value in side[:3]]
    assert torch.autograd.gradcheck(measure, leaves, fast_mode=True)
    gradients = torch.autograd.grad(measure(*leaves).sum(), leaves, allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 1e-3 for gradient in gradients)


def test_loading_a_fit_zeroes_the_parts_it_left_out(path):
    weights = {"cosine": torch.tensor([[1.0], [2.0], [3.0]]), "answers": torch.tensor([4.0])}
    path.load(weights, torch.tensor([0.0, 0.1, 0.2]))
    parts = path.measure(**sides())
    wanted = torch.tensor([0.0, 0.1, 0.2]) + 4 * parts["answers"] + parts["cosine"] * torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(path(**sides()), wanted, check_dtype=False)


@pytest.fixture
def fitted(merge):
    """`fitted(**config)`: a merge whose linear path says something."""

    def make(**config):
        model = merge(**{"linear_path": LINEAR_PATHS} | config)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.linear_path.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return model

    return make


def test_a_new_merge_has_a_path_that_says_nothing_yet(merge, batch):
    model = merge()
    assert model.linear_path.parts == ("query", "cosine", "answers", "context")
    with torch.no_grad():
        logits = model(**batch).logits
        model.linear_path = None
        assert torch.equal(model(**batch).logits, logits)
    assert merge(linear_path=[]).linear_path is None


def test_the_path_adds_its_logits_to_the_fuser(fitted, batch):
    model = fitted()
    with torch.no_grad():
        outputs = model(**batch)
        said = model.linear_path(
            *(
                EmbeddedSide(*(getattr(outputs, f"{s}_{n}") for n in EmbeddedSide._fields))
                for s in ("query", "context")
            )
        )
        model.linear_path = None
        torch.testing.assert_close(model(**batch).logits + said, outputs.logits)
    assert said.abs().min() > 1e-4


def test_saved_and_reloaded(fitted, batch, tmp_path):
    model = fitted()
    model.save_pretrained(tmp_path)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
    assert again.linear_path.parts == LINEAR_PATHS
    for name, parameter in model.linear_path.named_parameters():
        assert torch.equal(again.linear_path.get_parameter(name), parameter), name
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_a_merge_saved_before_there_was_a_path_loads_without_one(merge, batch, tmp_path):
    model = merge(linear_path=[])
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.pop("linear_path") == []
    (tmp_path / "config.json").write_text(json.dumps(written))
    again, report = OTMergeForQuestionAnswering.from_pretrained(tmp_path, output_loading_info=True)
    assert again.linear_path is None
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model(**batch).logits)
    again.save_pretrained(tmp_path / "again")
    assert AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "again").linear_path is None


def test_a_path_given_to_an_old_merge_starts_at_zero(merge, batch, tmp_path):
    model = merge(linear_path=[])
    model.save_pretrained(tmp_path)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path, linear_path=list(LINEAR_PATHS))
    assert all(not parameter.any() for parameter in again.linear_path.parameters())
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_a_part_that_is_added_later_starts_at_zero(fitted, batch, tmp_path):
    model = fitted(linear_path=["context", "cosine"])
    model.save_pretrained(tmp_path)
    again = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path, linear_path=["query", "context", "cosine"])
    assert not again.linear_path.maps["query"].weight.any()
    assert torch.equal(again.linear_path.maps["context"].weight, model.linear_path.maps["context"].weight)
    with torch.no_grad():
        torch.testing.assert_close(again(**batch).logits, model(**batch).logits)


def test_every_parameter_of_an_unfrozen_path_gets_a_gradient(merge, batch):
    """Those of `answers` are zero times zero until texts are put in: their gradient is zero, not missing."""
    model = merge(linear_path=LINEAR_PATHS).train()
    model.linear_path.requires_grad_(True)  # it is fitted, unless the user says otherwise
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    inert = {name for name, p in model.linear_path.named_parameters() if not p.grad.any()}
    assert inert == {"answer_embeds", "answer_scale"}
    with torch.no_grad():
        model.linear_path.answer_embeds.normal_()
    model.zero_grad()
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    assert model.linear_path.answer_scale.grad.abs() > 1e-6


def test_half_precision(fitted, batch):
    model = fitted()
    with torch.no_grad():
        wanted = model(**batch).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(**batch).logits
        half = model.bfloat16()(**batch | {"pixel_values": batch["pixel_values"].bfloat16()}).logits
    assert half.dtype == torch.bfloat16
    scale = wanted.abs().max()
    assert (mixed - wanted).abs().max() < 0.05 * scale
    assert (half - wanted).abs().max() < 0.1 * scale


def test_autocast_gradient_is_finite(fitted, batch):
    model = fitted().train()
    model.linear_path.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch, labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.linear_path.parameters())


def test_unknown_part_is_refused(merge):
    with pytest.raises(ValueError, match="`linear_path` holds 'words'; expected some of query, context, cosine"):
        merge(linear_path=["query", "words"])
