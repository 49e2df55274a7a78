"""Terms under the stock Trainer: attached, scheduled, logged by name, detached."""

import pytest
import torch
from tiny_training import all_callbacks
from transformers.integrations import TensorBoardCallback

from otmerge_hf.losses import Teacher
from otmerge_hf.training import (
    ContrastiveLossCallback,
    KLOTLossCallback,
    PairedLossCallback,
    ReconstructionLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    prioritize,
    set_stage,
)
from otmerge_hf.training import callbacks as callbacks_module


@pytest.fixture(scope="module")
def trained(make_model, make_module_trainer, features):
    callbacks = all_callbacks()
    trainer = make_module_trainer(
        make_model(reconstruction=True),
        list(callbacks.values()),
        evaluation=features(8, seed=1),
        eval_strategy="steps",
        eval_steps=2,
        max_steps=4,
    )
    trainer.train()
    return trainer, callbacks


def test_every_term_is_logged_by_name(trained, logs_of):
    trainer, callbacks = trained
    for name in callbacks:
        assert len(logs_of(trainer, name)) == 4
        assert len(logs_of(trainer, f"eval_{name}")) == 2
        assert all(torch.isfinite(torch.tensor(logs_of(trainer, name))))


def test_the_loss_is_the_weighted_sum_of_what_is_logged(trained):
    trainer, callbacks = trained
    for entry in [e for e in trainer.state.log_history if "loss" in e]:
        total = sum(entry[f"{name}_weight"] * entry[name] for name in callbacks)
        assert entry["loss"] == pytest.approx(total, rel=1e-3)


def test_schedules_are_followed_and_logged(trained, logs_of):
    trainer, _ = trained
    assert logs_of(trainer, "reconstruction_weight") == pytest.approx([1.0, 0.75, 0.5, 0.25])
    expected = [0.5 * 0.1 ** (step / 4) for step in range(4)]
    assert logs_of(trainer, "sinkhorn_epsilon") == pytest.approx(expected)
    assert logs_of(trainer, "paired_weight") == [0.5] * 4


def test_no_term_is_on_the_model_after_a_training(trained):
    trainer, callbacks = trained
    assert trainer.model.loss_terms == {}
    assert all(callback._window is None for callback in callbacks.values())


def test_evaluation_is_the_mean_over_its_batches(make_model, make_trainer, features, logs_of):
    evaluation = features(16, seed=1)
    trainer = make_trainer(
        make_model(),
        [PairedLossCallback()],
        evaluation=evaluation,
        eval_strategy="steps",
        eval_steps=1,
        max_steps=1,
        per_device_eval_batch_size=4,
    )
    trainer.train()
    batch = trainer.data_collator(evaluation.rows)
    outputs = trainer.model.eval()(**batch)
    expected = (outputs.context_embeds - outputs.query_embeds).square().sum(1).mean().item()
    assert logs_of(trainer, "eval_paired") == pytest.approx([expected], rel=1e-5)


def test_best_model_may_be_chosen_by_a_term(make_model, make_trainer, features):
    trainer = make_trainer(
        make_model(),
        [SinkhornLossCallback(), VarianceLossCallback()],
        evaluation=features(8, seed=1),
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_sinkhorn",
        greater_is_better=False,
        max_steps=2,
    )
    trainer.train()
    values = [entry["eval_sinkhorn"] for entry in trainer.state.log_history if "eval_sinkhorn" in entry]
    assert trainer.state.best_metric == pytest.approx(min(values))


def test_task_loss_and_terms_add_up(make_model, make_trainer, features, logs_of):
    model = make_model(answers=3)
    dataset = features(8, answers=3)
    with torch.no_grad():
        batch = make_trainer(model, []).data_collator(dataset.rows)
        task = model.train()(**batch).loss.item()
    trainer = make_trainer(model, [PairedLossCallback(2.0)], dataset=dataset, max_steps=1)
    trainer.train()
    paired = logs_of(trainer, "paired")[0]
    assert logs_of(trainer, "loss")[0] == pytest.approx(task + 2 * paired, rel=1e-4)


@pytest.mark.parametrize("ours_first", [True, False])
def test_tensorboard_sees_the_terms_after_prioritize(make_model, make_trainer, features, tmp_path, ours_first):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "events"
    trainer = make_trainer(
        make_model(),
        [SinkhornLossCallback(), VarianceLossCallback()],
        evaluation=features(8),
        report_to="tensorboard",
        eval_strategy="steps",
        eval_steps=1,
        max_steps=2,
    )
    if ours_first:
        assert prioritize(trainer) is trainer
    reporter = next(c for c in trainer.callback_handler.callbacks if isinstance(c, TensorBoardCallback))
    reporter.logging_dir = str(folder)
    trainer.train()
    tags = set()
    for file in folder.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        tags |= set(events.Tags()["scalars"])
    assert "train/loss" in tags
    wanted = {"train/sinkhorn", "train/variance", "eval/sinkhorn", "eval/variance", "train/sinkhorn_epsilon"}
    assert (wanted <= tags) == ours_first


def test_peft_wrapping_finds_the_host(make_model, make_trainer, logs_of):
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(
        make_model(),
        LoraConfig(
            r=2, target_modules=r".*encoder.*\.(query|value)", modules_to_save=["context_adapter", "query_adapter"]
        ),
    )
    before = {name: p.detach().clone() for name, p in wrapped.named_parameters() if "modules_to_save" in name}
    trainer = make_trainer(wrapped, [SinkhornLossCallback(), VarianceLossCallback()], label_names=[])
    trainer.train()
    assert len(logs_of(trainer, "sinkhorn")) == 3
    after = dict(wrapped.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert wrapped.base_model.model.loss_terms == {}


def test_reconstruction_refuses_a_model_without_decoders(make_model, make_trainer):
    trainer = make_trainer(make_model(), [ReconstructionLossCallback()])
    with pytest.raises(ValueError, match="needs decoders"):
        trainer.train()
    assert trainer.model.loss_terms == {}


def test_a_model_without_a_merge_is_refused(make_trainer):
    trainer = make_trainer(torch.nn.Linear(2, 2), [PairedLossCallback()])
    with pytest.raises(ValueError, match="holds no OTMerge model"):
        trainer.train()


def test_contrastive_trains_the_learned_scale(make_model, make_trainer):
    model = make_model()
    before = model.logit_scale.log_scale.item()
    make_trainer(model, [ContrastiveLossCallback()]).train()
    assert model.logit_scale.log_scale.item() != before


def test_two_terms_of_one_name_are_refused_before_the_first_step(make_model, make_trainer):
    """A checkpoint keeps callbacks by their class: of two, a resumed training could not tell which is which."""
    trainer = make_trainer(make_model(), [PairedLossCallback(1.0), PairedLossCallback(2.0)])
    with pytest.raises(ValueError, match="two `paired` terms"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_temperature_that_no_term_uses_stays_as_it_is(make_model, make_trainer, features):
    """Weight decay would shrink a parameter with gradient 0, but leaves one without gradient alone."""
    model = make_model(answers=3)
    before = model.otmerge.logit_scale.log_scale.detach().clone()
    trainer = make_trainer(model, [], dataset=features(answers=3), weight_decay=0.5, learning_rate=0.1)
    trainer.train()
    assert torch.equal(model.otmerge.logit_scale.log_scale, before)


def test_a_callback_gets_ready_for_each_model_that_it_is_used_with(make_model, make_trainer, features):
    """A teacher is folded into one model's standardisation; the next model has its own."""
    generator = torch.Generator().manual_seed(0)
    teacher = Teacher(
        torch.randn(3, 16, generator=generator), torch.zeros(3), torch.randn(3, 8, generator=generator), torch.zeros(3)
    )
    callback = KLOTLossCallback(teacher=teacher)
    make_trainer(make_model(), [callback], max_steps=1).train()
    other = make_model(seed=1)
    other.fit_standardization((torch.full((16,), 2.0), torch.full((16,), 3.0)), (torch.ones(8), torch.full((8,), 0.5)))
    seen = make_trainer(other, [callback], evaluation=features(16)).evaluate()["eval_klot"]
    fresh = make_trainer(other, [KLOTLossCallback(teacher=teacher)], evaluation=features(16)).evaluate()["eval_klot"]
    assert seen == pytest.approx(fresh, rel=1e-5)


def test_a_frozen_temperature_is_warned_of(make_model, make_trainer, monkeypatch):
    warnings = []
    monkeypatch.setattr(callbacks_module.logger, "warning", warnings.append)
    model = make_model()
    trainer = make_trainer(model, [ContrastiveLossCallback()], max_steps=1)
    set_stage(model, "align")  # after the Trainer had let it learn
    trainer.train()
    assert len(warnings) == 1
    assert "temperature, which is frozen" in warnings[0]


def test_an_unconverged_solver_is_logged_and_warned_of_once(make_model, make_trainer, features, logs_of, monkeypatch):
    warnings = []
    monkeypatch.setattr(callbacks_module.logger, "warning", warnings.append)
    trainer = make_trainer(
        make_model(),
        [SinkhornLossCallback(epsilon=1e-7), PairedLossCallback()],
        evaluation=features(8, seed=1),
        eval_strategy="steps",
        eval_steps=3,
    )
    trainer.train()
    assert logs_of(trainer, "sinkhorn_unconverged")
    assert all(0 < share <= 1 for share in logs_of(trainer, "sinkhorn_unconverged"))
    assert len(warnings) == 1
    assert "`sinkhorn` did not converge in" in warnings[0]
    assert "Raise `epsilon` (now 1e-07)" in warnings[0]
    assert not logs_of(trainer, "paired_unconverged")
