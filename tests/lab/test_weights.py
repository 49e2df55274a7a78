"""Weight merging between copies of one architecture: known limits, and the methods run on two text encoders."""

import pytest
import torch
from transformers import BertConfig, BertModel

from benchmarks.methods import get_method
from benchmarks.methods.weight_averaging import embedding
from benchmarks.methods.weights import average, fisher, regmean, require_same_architecture
from benchmarks.tasks.task import NotApplicable, Rows


@pytest.fixture
def two(encoder):
    first, second = encoder("bert"), encoder("bert")
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return first, second


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(5, 18, (1, 6), generator=generator)} for _ in range(40)]


def test_average_is_the_middle(two):
    merged = average([model.state_dict() for model in two])
    for name, value in merged.items():
        expected = (two[0].state_dict()[name] + two[1].state_dict()[name]) / 2
        torch.testing.assert_close(value, expected.to(value.dtype))


def test_fisher_of_a_linear_model_is_the_mean_square_of_its_input():
    model = torch.nn.Linear(3, 1, bias=False)
    x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 0.0])
    found = fisher(model, [{"input": row[None]} for row in x], lambda output: output)["weight"]
    torch.testing.assert_close(found, x.square().mean(dim=0)[None], rtol=0.15, atol=1e-6)


def test_fisher_average_follows_the_model_that_matters():
    states = [{"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([1.0, 1.0])}]
    merged = average(states, [{"w": torch.tensor([1e6, 0.0])}, {"w": torch.tensor([1.0, 0.0])}])["w"]
    torch.testing.assert_close(merged, torch.tensor([0.0, 0.5]), rtol=0, atol=1e-5)


def test_regmean_repeats_both_linear_models_where_their_inputs_do_not_meet():
    torch.manual_seed(0)
    models = [torch.nn.Linear(4, 2, bias=False) for _ in range(2)]
    inputs = [torch.zeros(50, 4), torch.zeros(50, 4)]
    inputs[0][:, :2], inputs[1][:, 2:] = torch.randn(50, 2), torch.randn(50, 2)
    boxes = [torch.nn.Sequential(model) for model in models]
    merged = regmean(boxes, [[{"input": x}] for x in inputs], shrink=1.0, ridge=1e-9)["0.weight"]
    plain = average([box.state_dict() for box in boxes])["0.weight"]
    for model, x in zip(models, inputs, strict=True):
        torch.testing.assert_close(x @ merged.T, model(x), rtol=1e-4, atol=1e-4)
        assert (x @ plain.T - model(x)).abs().max() > 0.1


def test_regmean_of_one_model_twice_is_that_model(two, batches):
    merged = regmean([two[0], two[0]], [batches, batches])
    for name, value in two[0].state_dict().items():
        torch.testing.assert_close(merged[name], value, rtol=1e-4, atol=1e-5)


def test_fisher_sees_every_weight_of_an_encoder_but_the_unused(two, batches):
    found = fisher(two[0], batches[:8], embedding)
    assert found["encoder.layer.0.attention.self.query.weight"].sum() > 0
    assert found["pooler.dense.weight"].sum() == 0


@pytest.mark.parametrize("name", ["weight_average", "fisher", "regmean"])
def test_runs_where_architectures_agree(name, two, task, recipe):
    task.context_encoder, task.query_encoder = two
    task.contexts = [f"the shape is {color}" for color in ("red", "green", "blue", "a circle")]
    task.train, task.test = Rows([0, 1, 2, 3], [0, 1, 0, 1], [0, 3, 2, 3]), Rows([1], [0], [1])
    before = {key: value.clone() for key, value in two[0].state_dict().items()}
    fitted = get_method(name)(task, recipe.replace(context_tokens="last_hidden_state"))
    encoders = fitted.model.otmerge
    merged = encoders.context_encoder.state_dict()
    assert all(torch.equal(merged[key], value) for key, value in encoders.query_encoder.state_dict().items())
    assert not torch.equal(
        merged["encoder.layer.0.output.dense.weight"], before["encoder.layer.0.output.dense.weight"]
    )
    assert fitted.task is not task
    assert all(torch.equal(two[0].state_dict()[key], value) for key, value in before.items())


def test_one_class_of_two_sizes_is_refused(encoder):
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    other = BertModel(BertConfig(vocab_size=20, **small))
    with pytest.raises(NotApplicable, match="both are BertModels, but"):
        require_same_architecture(encoder("bert"), other)
