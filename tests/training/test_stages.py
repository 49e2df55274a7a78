import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model

from otmerge_hf.training import (
    ContrastiveLossCallback,
    PairedLossCallback,
    ReconstructionLossCallback,
    set_stage,
    trainable_table,
)
from otmerge_hf.training.stages import STAGES


def learning(model):
    return {
        name.split(".")[0] if not name.startswith("otmerge.") else name.split(".")[1]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


ALIGN, ANSWER = {"context_adapter", "query_adapter"}, {"fuser", "classifier"}


@pytest.mark.parametrize(
    ("stage", "parts"),
    [("align", ALIGN), ("fuse", ANSWER), ("both", ALIGN | ANSWER)],
)
def test_what_learns_at_which_stage(make_model, stage, parts):
    model = make_model(answers=3)
    set_stage(model, stage)
    assert learning(model) == parts


@pytest.mark.parametrize("stage", STAGES)
def test_the_temperature_learns_only_for_a_term_that_uses_it(make_model, stage):
    model = make_model(answers=3)
    set_stage(model, stage, terms=[PairedLossCallback(), ContrastiveLossCallback()])
    assert "logit_scale" in learning(model)
    set_stage(model, stage, terms=[PairedLossCallback(), ContrastiveLossCallback(temperature=0.1)])
    assert "logit_scale" not in learning(model)


def test_the_table_counts(make_model):
    model = make_model()
    last = set_stage(model, "align").splitlines()[-1].split()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert last[1] == f"{trainable:,}"
    assert last[2] == f"{sum(p.numel() for p in model.parameters()):,}"
    model.context_adapter.requires_grad_(False)
    assert "frozen" in trainable_table(model)


def test_encoders_learn_only_when_the_configuration_says_so(make_model):
    model = make_model(answers=3, freeze_encoders=False)
    set_stage(model, "fuse")
    assert learning(model) == ANSWER | {"context_encoder", "query_encoder"}


OPTIONS = {
    "frozen": {},
    "decoders": {"reconstruction": True},
    "encoders learn": {"freeze_encoders": False},
    "a layer": {"freeze_encoders": False, "context_tokens": 1, "query_tokens": "cls"},
    "pooled": {"freeze_encoders": False, "context_tokens": "pooled"},
    "decoders of a layer": {"freeze_encoders": False, "reconstruction": True, "query_tokens": 0},
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("terms", [[PairedLossCallback()], [PairedLossCallback(), ReconstructionLossCallback()]])
@pytest.mark.parametrize("options", OPTIONS)
def test_whatever_learns_gets_a_gradient(merge, batch, stage, terms, options):
    """DistributedDataParallel waits for one of every parameter that learns, under gradient checkpointing."""
    options = OPTIONS[options]
    terms = [callback for callback in terms if not callback.needs_reconstruction or options.get("reconstruction")]
    model = merge(**options)
    set_stage(model, stage, terms)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    host = (model.otmerge if stage == "align" else model).train()
    host.loss_terms.update({callback.term.name: callback.term for callback in terms})
    host(**batch, **({} if stage == "align" else {"labels": torch.tensor([0, 1, 2])})).loss.backward()
    learns = {
        name: parameter.grad is not None for name, parameter in host.named_parameters() if parameter.requires_grad
    }
    assert learns
    assert [name for name, reached in learns.items() if not reached] == []
    assert any("_encoder" in name for name in learns) is not model.config.freeze_encoders
    assert any("decoder." in name for name in learns) is (len(terms) == 2 and stage != "fuse")


def test_refusals(make_model):
    with pytest.raises(ValueError, match="`stage` is 'all'"):
        set_stage(make_model(), "all")
    with pytest.raises(ValueError, match="has no fuser"):
        set_stage(make_model(), "fuse")


def test_leaves_lora_in_a_frozen_encoder_to_learn(make_model):
    lora = LoraConfig(r=2, target_modules=r".*query_encoder.*\.(query|value)")
    model = inject_adapter_in_model(lora, make_model(answers=3))
    set_stage(model, "both")
    inside = [name for name, parameter in model.named_parameters() if parameter.requires_grad and "_encoder" in name]
    assert inside
    assert all("lora_" in name for name in inside)


def test_what_peft_put_aside_never_learns(make_model):
    """`modules_to_save` keeps the untouched part as `original_module`, which no forward runs."""
    saved = ["context_adapter", "query_adapter", "fuser", "classifier"]
    lora = LoraConfig(r=2, target_modules=r".*query_encoder.*\.(query|value)", modules_to_save=saved)
    model = get_peft_model(make_model(answers=3), lora)
    for stage, parts in (("align", 2), ("fuse", 2), ("both", 4)):
        set_stage(model, stage)
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert not [name for name in names if "original_module" in name]
        assert len({name.split(".modules_to_save.")[0] for name in names if "modules_to_save" in name}) == parts
        assert any("lora_" in name for name in names)
