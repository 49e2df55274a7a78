"""Frozen means frozen: no gradient, no dropout, no running statistics; and the same class trains jointly."""

import copy

import pytest
import torch
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, Trainer, TrainingArguments

from otmerge_hf import OTMergeModel


def arguments(folder, **options):
    defaults = {"max_steps": 3, "per_device_train_batch_size": 3, "learning_rate": 1e-2, "logging_strategy": "no"}
    defaults |= {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    return TrainingArguments(output_dir=str(folder), **(defaults | options))


def rows(batch, size=32):
    """A data set of twelve rows out of the batch."""
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "pixel_values": torch.randn(3, size, size, generator=generator),
            "input_ids": batch["input_ids"][i % 3],
            "attention_mask": batch["attention_mask"][i % 3],
            "labels": i % 3,
        }
        for i in range(12)
    ]


def encoder_state(model):
    base = getattr(model, "otmerge", model)
    return {
        f"{side}.{name}": value.clone()
        for side in ("context", "query")
        for name, value in getattr(base, f"{side}_encoder").state_dict().items()
    }


def test_encoders_get_no_gradient_and_the_rest_does(merge, batch):
    model = merge(reconstruction=True).train()
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert not any("_encoder." in name for name in with_gradient)
    learning = {n for n, p in model.named_parameters() if p.requires_grad and "decoder" not in n}
    unused = {"otmerge.logit_scale.log_scale"}
    assert not any("linear_path." in name for name in learning | with_gradient)  # it is fitted
    # softmax does not see what a key's bias adds to all scores alike
    assert learning - with_gradient <= unused | {n for n in learning if n.endswith("k_proj.bias")}


def test_encoders_stay_in_eval_under_train(merge):
    model = merge("efficientnet").train()
    assert model.training
    assert model.fuser.training
    for encoder in (model.otmerge.context_encoder, model.otmerge.query_encoder):
        assert not any(module.training for module in encoder.modules())
    model.eval()
    assert not any(module.training for module in model.modules())
    model.otmerge.train()
    assert not model.otmerge.context_encoder.training


def test_stock_trainer_leaves_encoders_and_batch_norm_untouched(merge, batch, tmp_path):
    model = merge("efficientnet")
    before = encoder_state(model)
    assert any("running_mean" in name for name in before)
    weights = model.classifier[0].weight.detach().clone()
    Trainer(model, arguments(tmp_path), train_dataset=rows(batch, 64)).train()
    after = encoder_state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(model.classifier[0].weight, weights)


def test_joint_training_moves_batch_norm_and_both_encoders(merge, batch, tmp_path):
    model = merge("efficientnet", freeze_encoders=False)
    before = encoder_state(model)
    Trainer(model, arguments(tmp_path), train_dataset=rows(batch, 64)).train()
    after = encoder_state(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("running_mean" in name for name in moved)
    for part in ("context.", "query."):
        assert any(name.startswith(part) and name.endswith("weight") for name in moved)


def test_joint_model_has_gradients_in_both_encoders(merge, batch):
    model = merge(freeze_encoders=False).train()
    assert model.otmerge.context_encoder.training
    model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    for encoder in (model.otmerge.context_encoder, model.otmerge.query_encoder):
        missing = [n for n, p in encoder.named_parameters() if p.grad is None]
        assert all(name.startswith("pooler") for name in missing)


@pytest.mark.parametrize("freeze", [True, False])
def test_freezing_survives_loading(merge, tmp_path, freeze):
    merge(freeze_encoders=freeze).save_pretrained(tmp_path)
    for model in (
        AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path),
        AutoModel.from_pretrained(tmp_path),
        AutoModel.from_pretrained(tmp_path, output_loading_info=True)[0],
    ):
        base = getattr(model, "otmerge", model)
        for encoder in (base.context_encoder, base.query_encoder):
            assert all(p.requires_grad is not freeze for p in encoder.parameters())
        assert all(p.requires_grad for p in base.context_adapter.parameters())
        if model is not base:
            assert not any(p.requires_grad for p in model.linear_path.parameters())


def test_frozen_encoders_can_be_thawed_on_loading(merge, tmp_path):
    merge().save_pretrained(tmp_path)
    model = OTMergeModel.from_pretrained(tmp_path, freeze_encoders=False)
    assert all(p.requires_grad for name, p in model.named_parameters() if "logit_scale" not in name)


def test_frozen_encoders_keep_no_graph(merge, batch):
    """The encoders' activations are most of the memory."""
    outputs = merge(cls=OTMergeModel).train()(**batch)
    assert not outputs.context_tokens.requires_grad
    assert outputs.context_shared.requires_grad


def test_copy_is_frozen_too(merge):
    model = copy.deepcopy(merge())
    assert not any(p.requires_grad for p in model.otmerge.query_encoder.parameters())
