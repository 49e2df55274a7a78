"""The stock Trainer: resume, best model, accumulation, labels, checkpointing."""

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments, set_seed

from otmerge_hf.model.validation import logger


def arguments(folder, **options):
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 5e-3, "logging_strategy": "no", "seed": 3}
    defaults |= {"save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "report_to": "none", "max_steps": 4}
    return TrainingArguments(output_dir=str(folder), **(defaults | options))


@pytest.fixture
def rows(batch):
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "pixel_values": torch.randn(3, 32, 32, generator=generator),
            "input_ids": batch["input_ids"][i % 3],
            "attention_mask": batch["attention_mask"][i % 3],
            "labels": i % 3,
        }
        for i in range(24)
    ]


def same(first, second, tolerance=0.0):
    first, second = first.state_dict(), second.state_dict()
    worst = {name: (first[name].float() - second[name].float()).abs().max().item() for name in first}
    return {name: value for name, value in worst.items() if value > tolerance}


@pytest.mark.parametrize("freeze", [True, False])
def test_resumed_run_equals_a_straight_one(merge, rows, tmp_path, freeze):
    """Joint training: the encoder's keys, renamed on disk, would be lost without a word."""
    options = {"freeze_encoders": freeze, "fuser_dropout": 0.0}
    straight = merge(**options)
    Trainer(straight, arguments(tmp_path / "a"), train_dataset=rows).train()
    half = merge(**options)
    Trainer(half, arguments(tmp_path / "b", save_strategy="steps", save_steps=2), train_dataset=rows).train()
    resumed = merge(seed=9, **options)  # other weights, so that a tensor that is not loaded shows
    trainer = Trainer(resumed, arguments(tmp_path / "b"), train_dataset=rows)
    trainer.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))
    assert same(straight, half) == {}
    assert same(straight, resumed, 1e-6) == {}


def test_best_model_is_loaded_whole(merge, rows, tmp_path):
    model = merge(freeze_encoders=False)
    calls = iter([1.0, 0.5, 0.25, 0.125])  # the first evaluation is the best
    options = {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}
    options |= {"eval_steps": 1, "save_steps": 1, "metric_for_best_model": "eval_score", "greater_is_better": True}
    trainer = Trainer(
        model,
        arguments(tmp_path, **options),
        train_dataset=rows,
        eval_dataset=rows[:4],
        compute_metrics=lambda _: {"score": next(calls)},
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    best = type(model).from_pretrained(tmp_path / "checkpoint-1")
    last = type(model).from_pretrained(tmp_path / "checkpoint-4")
    assert same(model, best) == {}
    assert any("context_encoder" in name for name in same(model, last))


def test_evaluation_gathers_the_logits_alone(merge, rows, tmp_path):
    seen = {}

    def compute(prediction):
        seen["logits"], seen["labels"] = prediction.predictions, prediction.label_ids
        return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}

    model = merge(reconstruction=True)
    trainer = Trainer(model, arguments(tmp_path), eval_dataset=rows, compute_metrics=compute)
    metrics = trainer.evaluate()
    assert isinstance(seen["logits"], np.ndarray)
    assert seen["logits"].shape == (24, 3)
    assert seen["labels"].shape == (24,)
    assert {"eval_loss", "eval_accuracy"} <= set(metrics)
    prediction = trainer.predict(rows)
    assert prediction.predictions.shape == (24, 3)


@pytest.mark.parametrize("soft", [False, True])
def test_accumulated_gradients_equal_those_of_one_batch(merge, rows, tmp_path, soft):
    if soft:
        for row in rows:
            row["labels"] = torch.nn.functional.one_hot(torch.tensor(row["labels"]), 3).float() * 0.9
    found = {}
    for size, steps in ((8, 1), (2, 4)):
        set_seed(0)
        model = merge(fuser_dropout=0.0)
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 2}
        # plain gradient descent: Adam would hide a wrong factor
        options |= {"optim": "sgd", "max_grad_norm": 0.0, "logging_strategy": "steps", "logging_steps": 1}
        trainer = Trainer(model, arguments(tmp_path / str(size), **options), train_dataset=rows)
        trainer.train()
        found[size] = (model, [log["loss"] for log in trainer.state.log_history if "loss" in log])
    assert same(found[8][0], found[2][0], 1e-6) == {}
    assert found[8][1] == pytest.approx(found[2][1], abs=1e-5)


def test_hard_labels(merge, batch):
    model = merge()
    with torch.no_grad():
        logits = model(**batch).logits
        loss = model(**batch, labels=torch.tensor([2, -100, 0])).loss
        ignored = model(**batch, labels=torch.tensor([-100, -100, -100])).loss
    torch.testing.assert_close(loss, -(logits[0].log_softmax(-1)[2] + logits[2].log_softmax(-1)[0]) / 2)
    assert ignored.item() == 0  # not 0 / 0
    assert model.config.problem_type is None


def test_soft_labels(merge, batch):
    model = merge(problem_type="multi_label_classification")
    labels = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.0, 0.0], [0.6, 0.9, 1.0]])
    with torch.no_grad():
        outputs = model(**batch, labels=labels)
    p = outputs.logits.sigmoid()
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum(-1).mean()
    torch.testing.assert_close(outputs.loss, expected)
    counts = model(**batch, labels=torch.eye(3).long()).loss
    torch.testing.assert_close(counts, model(**batch, labels=torch.eye(3)).loss)


def test_soft_labels_do_not_change_the_configuration_but_say_how_to(merge, batch, caplog):
    """The pipeline shows what the configuration says; a loss that edited it would change the saved model silently."""
    logger.warning_once.cache_clear()
    model = merge()
    for _ in range(2):
        model(**batch, labels=torch.rand(3, 3))
    warnings = [record.getMessage() for record in caplog.records if "soft targets" in record.getMessage()]
    assert len(warnings) == 1
    assert 'model.config.problem_type = "multi_label_classification"' in warnings[0]
    assert model.config.problem_type is None


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [("single_label_classification", torch.eye(3)), ("multi_label_classification", torch.tensor([0, 1, 2]))],
)
def test_labels_of_another_kind_than_the_configuration_says(merge, batch, problem_type, labels):
    with pytest.raises(ValueError, match=f"the configuration says `problem_type='{problem_type}'`"):
        merge(problem_type=problem_type)(**batch, labels=labels)


def test_trainer_does_not_scale_the_loss(merge, rows, tmp_path):
    model = merge()
    assert model.accepts_loss_kwargs is False
    assert Trainer(model, arguments(tmp_path), train_dataset=rows).model_accepts_loss_kwargs is False
    assert model.loss_type is None


def test_attached_terms_are_added(merge, batch):
    model = merge(reconstruction=True)
    labels = torch.tensor([0, 1, 2])
    plain = model(**batch, labels=labels).loss
    model.loss_terms["two"] = lambda outputs: 2 * outputs.query_embeds.square().mean()
    model.otmerge.loss_terms["never"] = lambda outputs: 1 / 0
    with_term = model(**batch, labels=labels)
    torch.testing.assert_close(with_term.loss, plain + 2 * with_term.query_embeds.square().mean())
    assert model(**batch).loss is None
    model.otmerge.loss_terms.clear()
    aligner = model.otmerge
    assert aligner(**batch).loss is None
    aligner.loss_terms["one"] = lambda outputs: outputs.context_embeds.sum()
    torch.testing.assert_close(aligner(**batch).loss, aligner.get_context_embeds(**batch).sum())
    assert aligner(**batch, return_loss=False).loss is None


@pytest.mark.parametrize("context", ["vit", "efficientnet"])
@pytest.mark.parametrize("freeze", [True, False])
def test_gradient_checkpointing_changes_no_gradient(merge, batch, context, freeze):
    if context == "efficientnet":
        batch["pixel_values"] = torch.nn.functional.interpolate(batch["pixel_values"], 64)
    gradients = []
    for checkpointing in (False, True):
        model = merge(context, freeze_encoders=freeze, fuser_dropout=0.0)
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.train()
        for module in model.modules():  # dropout and batch statistics draw anew in the second forward
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4, msg=name)


def test_checkpointed_trainer_runs(merge, rows, tmp_path):
    model = merge(freeze_encoders=False)
    trainer = Trainer(model, arguments(tmp_path, gradient_checkpointing=True, max_steps=2), train_dataset=rows)
    assert trainer.train().training_loss > 0
