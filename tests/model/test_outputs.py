"""Hidden states, attentions and tuples: by argument or by the configuration, as in every transformers model."""

import pytest
import torch

from otmerge_hf import OTMergeForQuestionAnswering, OTMergeModel
from otmerge_hf.model.configuration_otmerge import FUSER_TYPES
from otmerge_hf.model.outputs_otmerge import OTMergeQuestionAnsweringOutput
from otmerge_hf.training import ReconstructionLossCallback, SinkhornLossCallback


LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize("fuser_type", FUSER_TYPES)
def test_hidden_states_are_the_query_tokens_through_the_fuser(merge, batch, fuser_type):
    model = merge(fuser_type=fuser_type, fuser_num_layers=2)
    layers = 0 if fuser_type in ("concat", "average", "transport") else 2
    with torch.no_grad():
        outputs = model(**batch, output_hidden_states=True)
        aligned = model.otmerge(**batch, output_hidden_states=True)
        assert model(**batch).hidden_states is model.otmerge(**batch).hidden_states is None
    assert [states.shape for states in outputs.hidden_states] == [(3, 7, 16)] * (1 + layers)
    assert torch.equal(outputs.hidden_states[0], outputs.query_shared)
    assert len(aligned.hidden_states) == 1
    assert torch.equal(aligned.hidden_states[0], aligned.query_shared)
    if fuser_type in ("cross_attention", "self_cross_block"):  # what the fuser returns is the last one's mean
        mask = batch["attention_mask"][..., None]
        fused = (outputs.hidden_states[-1] * mask).sum(1) / mask.sum(1)
        torch.testing.assert_close(model.classifier(fused), outputs.logits)


@pytest.mark.parametrize("cls", [OTMergeModel, OTMergeForQuestionAnswering])
def test_the_configuration_decides_where_the_argument_is_silent(merge, batch, cls):
    model = merge(cls=cls)
    model.set_attn_implementation("eager")
    model.config.output_hidden_states = model.config.output_attentions = True
    attending = 1 if cls is OTMergeForQuestionAnswering else 0
    with torch.no_grad():
        outputs = model(**batch)
        assert (len(outputs.hidden_states), len(outputs.attentions)) == (1 + attending, attending)
        silenced = model(**batch, output_hidden_states=False, output_attentions=False)
        assert silenced.hidden_states is silenced.attentions is None
        model.config.return_dict = False
        assert model(**batch)[-1] == () or torch.equal(model(**batch)[-1][0], outputs.attentions[0])
        assert not isinstance(model(**batch, return_dict=True), tuple)


def test_everything_asked_for_is_there_with_labels_too(merge, batch):
    model = merge(fuser_num_layers=2)
    model.set_attn_implementation("eager")
    outputs = model(**batch, labels=LABELS, output_hidden_states=True, output_attentions=True)
    assert isinstance(outputs, OTMergeQuestionAnsweringOutput)
    assert list(outputs)[:2] == ["loss", "logits"]
    assert list(outputs)[-2:] == ["hidden_states", "attentions"]
    outputs.hidden_states[0].retain_grad()
    outputs.attentions[0].retain_grad()
    outputs.loss.backward()
    assert outputs.hidden_states[0].grad.abs().sum() > 0
    assert outputs.attentions[0].grad.abs().sum() > 0


def test_decoders_run_only_for_a_term_that_reads_them(merge, batch):
    model, runs = merge(reconstruction=True), []
    for adapter in (model.otmerge.context_adapter, model.otmerge.query_adapter):
        adapter.decoder.register_forward_hook(lambda *_: runs.append(1))

    def runs_with(term):
        model.loss_terms = {} if term is None else {"term": term}
        runs.clear()
        model(**batch, labels=LABELS)
        return len(runs)

    assert runs_with(None) == 0
    assert runs_with(SinkhornLossCallback(1.0)) == 0
    assert runs_with(ReconstructionLossCallback(1.0)) == 2
    assert runs_with(lambda outputs: outputs.query_reconstruction.sum()) == 2  # a function does not say what it reads


def test_the_answering_walk_runs_each_part_once_and_no_cosine(merge, batch, monkeypatch):
    model, calls = merge(linear_path=[]), []
    for name, part in model.named_modules():
        if name.count(".") <= 1:
            part.register_forward_hook(lambda *_, name=name: calls.append(name))
    normalize = torch.nn.functional.normalize
    monkeypatch.setattr(torch.nn.functional, "normalize", lambda *a, **k: calls.append("cosine") or normalize(*a, **k))
    with torch.no_grad():
        model(**batch)
        walk = ["context_encoder", "context_standardizer", "context_adapter", "query_encoder", "query_standardizer",
                "query_adapter"]  # fmt: skip
        assert [name for name in calls if name.startswith("otmerge.") and "scale" not in name] == [
            f"otmerge.{name}" for name in walk
        ]
        assert "cosine" not in calls
        model.otmerge(**batch)
        assert calls.count("cosine") == 2
