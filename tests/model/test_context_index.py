"""Queries that share a context: encoded and adapted once, and the same answers and gradients as row by row."""

import pytest
import torch


ROWS = torch.tensor([0, 2, 2, 0, 1, 2])
FUSERS = ("cross_attention", "bidirectional", "self_cross_block", "concat", "average", "transport")


@pytest.fixture
def shared(batch):
    """Three contexts with six queries, and the same with each context as often as it is asked about."""
    asked = {name: torch.cat([batch[name], batch[name].flip(0)]) for name in ("input_ids", "attention_mask")}
    together = {"pixel_values": batch["pixel_values"], "context_index": ROWS} | asked
    return together, {"pixel_values": batch["pixel_values"][ROWS]} | asked


@pytest.mark.parametrize("fuser", FUSERS)
def test_answers_and_gradients_are_those_of_single_rows(merge, shared, fuser):
    parts = ["query", "context", "cosine", "late_interaction", "transport"]
    model = merge(fuser_type=fuser, linear_path=parts)
    torch.nn.init.normal_(model.linear_path.maps["context"].weight)
    torch.nn.init.normal_(model.linear_path.maps["cosine"].weight)
    found = []
    for inputs in shared:
        model.zero_grad()
        out = model(**inputs, labels=torch.tensor([0, 1, 0, 1, 1, 0]))
        out.loss.backward()
        found.append((out, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (together, gradients), (apart, expected) = found
    assert together.logits.shape[0] == 6
    for name in ("logits", "context_embeds", "context_tokens", "context_shared"):
        torch.testing.assert_close(together[name], apart[name], atol=1e-5, rtol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4)


def test_each_context_passes_its_encoder_and_adapter_once(merge, shared):
    model, seen = merge(), []
    model.otmerge.context_encoder.register_forward_hook(lambda *call: seen.append(len(call[-1][0])))
    model.otmerge.context_adapter.register_forward_hook(lambda *call: seen.append(len(call[-1])))
    with torch.no_grad():
        model(**shared[0])
    assert seen == [3, 3]


def test_similarities_are_between_the_queries_and_their_contexts(merge, shared):
    together, apart = (merge().otmerge(**inputs).logits_per_text for inputs in shared)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_an_exported_model_takes_other_batches(merge, shared):
    class Answer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = merge()

        def forward(self, pixels, ids, mask, rows):
            return self.model(pixel_values=pixels, input_ids=ids, attention_mask=mask, context_index=rows).logits

    given = [shared[0][name] for name in ("pixel_values", "input_ids", "attention_mask", "context_index")]
    asked = {0: torch.export.Dim("queries", min=2, max=64)}
    sizes = ({0: torch.export.Dim("contexts", min=2, max=64)}, asked, asked, asked)
    answer = Answer().eval()
    exported = torch.export.export(answer, tuple(given), dynamic_shapes=sizes).module()
    other = given[0][:2], given[1][:4], given[2][:4], torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(exported(*other), answer(*other), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.tensor([0, 1, 3, 0, 0, 0]), "holds 3, and there are 3 contexts"),
        (torch.tensor([0, -1, 0, 0, 0, 0]), "holds -1"),
        (torch.zeros(6), "whole numbers"),
        (torch.zeros(6).to(torch.int16), "whole numbers"),
        (torch.zeros(6, 1).long(), "of shape"),
        (torch.zeros(4).long(), "4 contexts and 6 queries"),
    ],
)
def test_rows_that_are_none_are_named(merge, shared, rows, said):
    with pytest.raises(ValueError, match=said):
        merge()(**shared[0] | {"context_index": rows})
