"""`train_alignment` and `train_answers` are the stock Trainer with what it is told: bit for bit."""

import copy

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments, default_data_collator

from otmerge_hf.features import FeatureCollator, compute_features
from otmerge_hf.training import (
    ContrastiveLossCallback,
    PairedLossCallback,
    SinkhornLossCallback,
    VarianceLossCallback,
    answer_accuracy,
    set_stage,
    train_alignment,
    train_answers,
)


@pytest.fixture
def arguments(tmp_path):
    def make(name="run", **options):
        defaults = {
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "logging_steps": 1,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "save_strategy": "no",
        }
        return TrainingArguments(str(tmp_path / name), **defaults | options)

    return make


def terms():
    return [ContrastiveLossCallback(0.5), SinkhornLossCallback(0.1)]


def same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_alignment_is_a_trainer_written_by_hand(make_model, features, arguments):
    data = features(24)
    model = make_model(answers=3)
    by_hand = copy.deepcopy(model)
    trained = train_alignment(model, data, default_data_collator, arguments(), terms())
    assert trained.model is model.otmerge
    set_stage(by_hand, "align", terms())
    Trainer(
        model=by_hand.otmerge,
        args=arguments("hand"),
        train_dataset=data,
        data_collator=default_data_collator,
        callbacks=terms(),
    ).train()
    same(model.state_dict(), by_hand.state_dict())
    assert not torch.equal(model.otmerge.logit_scale.log_scale, make_model(answers=3).otmerge.logit_scale.log_scale)


@pytest.mark.parametrize("stage", ["both", "fuse"])
def test_answers_are_a_trainer_written_by_hand(stage, make_model, features, arguments):
    data = features(24, answers=3)
    model = make_model(answers=3)
    by_hand = copy.deepcopy(model)
    trained = train_answers(
        model, data, default_data_collator, arguments(), stage=stage, eval_questions=data, terms=[PairedLossCallback()]
    )
    set_stage(by_hand, stage)
    trainer = Trainer(
        model=by_hand,
        args=arguments("hand"),
        train_dataset=data,
        eval_dataset=data,
        data_collator=default_data_collator,
        compute_metrics=answer_accuracy,
        callbacks=[PairedLossCallback()],
    )
    trainer.train()
    same(model.state_dict(), by_hand.state_dict())
    for key in ("eval_accuracy", "eval_loss", "eval_paired"):
        assert trained.evaluate()[key] == trainer.evaluate()[key]


def test_stage_none_trains_what_is_set_to_learn(make_model, features, arguments):
    model = make_model(answers=3)
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    before = copy.deepcopy(model.state_dict())
    train_answers(model, features(8, answers=3), default_data_collator, arguments(), stage=None)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"classifier"}


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("of", ["alignment", "answers"])
def test_a_resumed_stage_is_the_stage_that_never_stopped(of, make_model, features, arguments):
    data, options = features(24, answers=3), {"save_strategy": "steps", "save_steps": 1, "max_steps": 4}

    def train(model, name, **more):
        common = (model, data, default_data_collator, arguments(name, **options))
        if of == "alignment":
            return train_alignment(*common, terms(), **more)
        return train_answers(*common, terms=terms(), **more)

    straight, resumed = make_model(answers=3), make_model(answers=3)
    train(straight, "straight")
    with pytest.raises(KeyboardInterrupt):
        train(resumed, "resumed", callbacks=[Stop()])
    train(resumed, "resumed", resume_from_checkpoint=True)
    same(straight.state_dict(), resumed.state_dict())


def test_evaluating_an_alignment_and_choosing_the_best(make_model, features, arguments):
    args = arguments(
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_paired",
        greater_is_better=False,
    )
    callbacks = [PairedLossCallback(), VarianceLossCallback()]
    trainer = train_alignment(
        make_model(), features(16), default_data_collator, args, callbacks, eval_pairs=features(8)
    )
    assert trainer.evaluate()["eval_paired"] == pytest.approx(trainer.state.best_metric, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": []}, "`pairs` is empty"),
        ({"pairs": {"context_features": [1]}}, "`pairs` is a dict; expected rows"),
        ({"terms": []}, "`terms` is empty; expected at least one loss term"),
        ({"terms": [TrainerCallback()]}, "`terms` holds a TrainerCallback"),
        ({"model": torch.nn.Linear(2, 2)}, "A Linear holds no OTMerge model"),
    ],
)
def test_alignment_refuses(change, message, make_model, features, arguments):
    options = {"model": make_model(), "pairs": features(8), "terms": terms()} | change
    with pytest.raises(ValueError, match=message):
        train_alignment(options["model"], options["pairs"], default_data_collator, arguments(), options["terms"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": []}, "`questions` is empty"),
        ({"terms": [3]}, "`terms` holds a int"),
        ({"stage": "all"}, "`stage` is 'all'"),
    ],
)
def test_answers_refuse(change, message, make_model, features, arguments):
    options = {"questions": features(8, answers=3)} | change
    questions = options.pop("questions")
    with pytest.raises(ValueError, match=message):
        train_answers(make_model(answers=3), questions, default_data_collator, arguments(), **options)


def test_answers_refuse_rows_without_labels_and_a_model_without_a_head(make_model, features, arguments):
    with pytest.raises(ValueError, match=r"`collator` makes \['context_features', .* expected `labels` among them"):
        train_answers(make_model(answers=3), features(8), default_data_collator, arguments())
    with pytest.raises(ValueError, match="`model` is a OTMergeModel; expected an OTMergeForQuestionAnswering"):
        train_answers(make_model(), features(8, answers=3), default_data_collator, arguments())


def test_a_stream_of_rows_is_trained_on(make_model, features, arguments):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(features(24, answers=3).rows)

    trainer = train_answers(make_model(answers=3), Stream(), default_data_collator, arguments(max_steps=2))
    assert trainer.state.global_step == 2


def test_accuracy_of_soft_labels_is_the_score_of_the_chosen_answer():
    logits = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    soft = np.array([[0.3, 1.0, 0.0], [0.0, 0.6, 1.0]])
    assert answer_accuracy(EvalPrediction(logits, soft))["accuracy"] == pytest.approx(0.45)
    assert answer_accuracy(EvalPrediction(logits, np.array([-100, -100])))["accuracy"] == 0.0


def test_mean_features_are_refused_where_they_are_not_those_of_the_tokens(tmp_path, make_model):
    def ones(texts):
        return torch.ones(len(texts), 3, 16 if texts[0] == "c" else 8), None

    stores = [
        compute_features(ones, [name], cache_dir=tmp_path, key={"side": name}, batch_size=1, progress=False)
        for name in ("c", "q")
    ]
    collator = FeatureCollator(*stores, pooling="mean")
    rows = [{"context_features": 0, "query_features": 0, "labels": 0}]
    args = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none", save_strategy="no")
    terms = [PairedLossCallback()]
    with pytest.raises(ValueError, match="the adapters are `mlp`; expected linear, orthogonal, monge"):
        train_alignment(make_model(), rows, collator, args, terms)
    with pytest.raises(ValueError, match="look at single tokens"):
        train_answers(make_model(answers=3, adapter_type="linear"), rows, collator, args)
    of_tokens = make_model(answers=3, adapter_type="linear", fuser_type="concat", linear_path=["late_interaction"])
    with pytest.raises(ValueError, match="look at single tokens"):
        train_answers(of_tokens, rows, collator, args)
    of_means = make_model(answers=3, adapter_type="linear", fuser_type="concat", linear_path=["query", "cosine"])
    train_answers(of_means, rows, collator, args)
    train_alignment(make_model(adapter_type="linear"), rows, collator, args, terms)
