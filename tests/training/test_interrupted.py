"""Loss terms are on the model only while their own Trainer computes a loss: an interruption leaves nothing behind."""

import copy
import gc

import pytest
import torch
from transformers import TrainerCallback

from otmerge_hf.training import KLOTLossCallback, PairedLossCallback, SinkhornLossCallback, VarianceLossCallback


class Interrupt(TrainerCallback):
    """Ctrl-C at one event of the second step."""

    def __init__(self, event):
        setattr(self, event, self.interrupt)

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == 1:
            raise KeyboardInterrupt


def interrupt_in_forward(model):
    """Ctrl-C while the model runs, with its terms on."""
    calls = []

    def stop(module, inputs):
        calls.append(module)
        if len(calls) == 2:
            raise KeyboardInterrupt

    return model.classifier.register_forward_pre_hook(stop)


@pytest.mark.parametrize("where", ["on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_log", "forward"])
def test_the_next_trainer_learns_from_the_task_alone(where, make_model, make_trainer, features, logs_of):
    model, data = make_model(answers=3), features(24, answers=3)
    first = make_trainer(model, [SinkhornLossCallback(), PairedLossCallback()], dataset=data)
    if where == "forward":
        hook = interrupt_in_forward(model)
    else:
        first.add_callback(Interrupt(where))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    if where == "forward":
        hook.remove()
    assert model.loss_terms == {}
    control = copy.deepcopy(model)
    assert not control.loss_terms
    histories = []
    for candidate in (model, control):
        second = make_trainer(candidate, [], dataset=data)
        second.train()
        histories.append(logs_of(second, "loss"))
    assert histories[0] == histories[1]
    with torch.no_grad():
        batch = first.data_collator(data.rows)
        outputs = model.eval()(**batch)
        assert outputs.loss == model.answer_loss(outputs.logits, batch["labels"])


def test_the_interrupted_trainer_may_train_again(make_model, make_trainer, logs_of):
    model = make_model()
    start = copy.deepcopy(model.state_dict())
    trainer = make_trainer(model, [SinkhornLossCallback(), Interrupt("on_pre_optimizer_step")], optim="sgd")
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(Interrupt)
    model.load_state_dict(start)
    trainer.train()
    straight = make_trainer(make_model(), [SinkhornLossCallback()], optim="sgd")
    straight.train()
    assert logs_of(trainer, "sinkhorn") == logs_of(straight, "sinkhorn")


def test_a_trainer_without_the_terms_is_not_given_them(make_model, make_trainer):
    """An aligner that was interrupted, and a base model without a loss of its own: the next Trainer says so."""
    model = make_model()
    first = make_trainer(model, [SinkhornLossCallback(), Interrupt("on_pre_optimizer_step")])
    with pytest.raises(KeyboardInterrupt):
        first.train()
    with pytest.raises(ValueError, match="did not return a loss"):
        make_trainer(model, []).train()


def test_terms_that_the_user_put_on_the_model_stay(make_model, make_trainer, logs_of):
    model = make_model()
    model.loss_terms["own"] = lambda outputs: outputs.context_embeds.square().mean()
    trainer = make_trainer(model, [PairedLossCallback(0.5)])
    trainer.train()
    assert list(model.loss_terms) == ["own"]
    assert logs_of(trainer, "loss")[0] > 0.5 * logs_of(trainer, "paired")[0]


def test_the_trainer_is_not_kept_alive(make_model, make_trainer):
    import weakref

    trainer = make_trainer(make_model(), [PairedLossCallback()], max_steps=1)
    trainer.train()
    gone, callback = weakref.ref(trainer), trainer.callback_handler.callbacks[-1]
    del trainer
    gc.collect()
    assert gone() is None
    assert callback is not None


@pytest.mark.parametrize("trained", [True, False])
def test_evaluate_after_and_before_a_training_reports_the_terms(trained, make_model, make_trainer, features):
    data = features(16, seed=1)
    callbacks = [PairedLossCallback(0.5), SinkhornLossCallback(2.0), VarianceLossCallback()]
    trainer = make_trainer(make_model(), callbacks, evaluation=data, per_device_eval_batch_size=16)
    if trained:
        trainer.train()
    metrics = trainer.evaluate()
    outputs = trainer.model.eval()(**trainer.data_collator(data.rows))
    assert outputs.loss is None
    distance = (outputs.context_embeds - outputs.query_embeds).square().sum(1).mean().item()
    assert metrics["eval_paired"] == pytest.approx(distance, rel=1e-5)
    total = 0.5 * metrics["eval_paired"] + 2 * metrics["eval_sinkhorn"] + metrics["eval_variance"]
    assert metrics["eval_loss"] == pytest.approx(total, rel=1e-5)
    assert (
        trainer.evaluate() == pytest.approx(metrics, nan_ok=True)
        or trainer.evaluate()["eval_paired"] == (metrics["eval_paired"])
    )


def test_evaluate_after_a_training_is_the_evaluation_during_it(make_model, make_trainer, features, logs_of):
    data = features(8, answers=3, seed=1)
    trainer = make_trainer(
        make_model(answers=3),
        [SinkhornLossCallback()],
        dataset=features(8, answers=3),
        evaluation=data,
        eval_strategy="steps",
        eval_steps=3,
    )
    trainer.train()
    for key in ("eval_loss", "eval_sinkhorn"):
        assert trainer.evaluate()[key] == logs_of(trainer, key)[0]


def test_predict_reports_the_terms_and_leaves_the_next_evaluation_alone(make_model, make_trainer, features):
    data, other = features(8, answers=3, seed=1), features(8, answers=3, seed=2)
    trainer = make_trainer(make_model(answers=3), [PairedLossCallback()], dataset=data, evaluation=data)
    trainer.train()
    before = trainer.evaluate()["eval_paired"]
    assert trainer.predict(other).metrics["test_paired"] != before
    assert trainer.evaluate()["eval_paired"] == before


def test_a_teacher_is_ready_when_only_evaluated(make_model, make_trainer, features):
    from tiny_training import all_callbacks

    callback = all_callbacks()["klot"]
    assert isinstance(callback, KLOTLossCallback)
    assert make_trainer(make_model(), [callback], evaluation=features(8)).evaluate()["eval_klot"] > 0


def test_a_loop_that_is_no_trainer_is_told_where_terms_go(make_model):
    with pytest.raises(RuntimeError, match="in a loop of your own put the term on the model"):
        PairedLossCallback().on_train_begin(None, None, None, model=make_model())


def test_an_interrupted_evaluation_leaves_nothing_in_the_next_mean(make_model, make_trainer, features):
    model, data = make_model(answers=3), features(24, answers=3)
    trainer = make_trainer(model, [PairedLossCallback()], evaluation=data, dataset=data, per_device_eval_batch_size=8)
    expected = trainer.evaluate()["eval_paired"]
    hook = interrupt_in_forward(model)
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate()
    hook.remove()
    assert trainer.evaluate()["eval_paired"] == expected
