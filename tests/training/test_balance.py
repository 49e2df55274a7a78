"""Weights inverse to frequency: against scikit-learn, and on a rare answer that an even loss overlooks."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from tiny_training import CONTEXT_DIM, QUERY_DIM
from transformers import TrainingArguments, default_data_collator

from otmerge_hf.training import balanced_weights, grow_answers, train_answers
from otmerge_hf.training.linear_fit import LinearFit, fit_linear_path


RARE = 0.08


def planted(count, seed):
    """Rows of tokens; one in twelve has the rare answer, which noisy words tell."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        context, query = (torch.randn(3, dim, generator=generator) for dim in (CONTEXT_DIM, QUERY_DIM))
        label = int(torch.rand((), generator=generator) < RARE)
        query[:, 0] = 2 * label - 1 + 0.8 * torch.randn((), generator=generator)
        made.append({"context_features": context, "query_features": query, "labels": label})
    return made


def recall(model, rows):
    """Share found of the rare rows, and of the frequent ones."""
    batch = default_data_collator(rows)
    labels = batch.pop("labels")
    with torch.no_grad():
        said = model.eval()(**batch).logits.argmax(dim=1)
    return [(said[labels == answer] == answer).float().mean().item() for answer in (1, 0)]


def test_weights_are_scikit_learns():
    labels = torch.tensor([0] * 7 + [1] * 2 + [2] + [-100] * 4)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[labels >= 0].numpy())
    np.testing.assert_allclose(balanced_weights(labels, 3), expected, rtol=1e-6)
    weights = balanced_weights(labels, 5)
    assert weights[3:].tolist() == [1.0, 1.0]
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1.0)


@pytest.mark.parametrize("labels", [torch.rand(4, 2), torch.tensor([-100, -100])])
def test_labels_without_a_frequency_are_refused(labels):
    with pytest.raises(
        ValueError, match=r"`labels` (have shape \(4, 2\); expected one answer a row|hold no label but -100)"
    ):
        balanced_weights(labels, 2)


def test_the_linear_fit_is_scikit_learns_balanced_regression():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 90 + [1] * 40 + [2] * 10)
    x = torch.randn(140, 6, generator=generator) + torch.nn.functional.one_hot(labels, 6)
    start = LinearFit({}, torch.zeros(3), {"query": 100.0}, {})
    weights = balanced_weights(labels, 3)
    options = {"again": start, "class_weights": weights, "max_iterations": 2000}
    fit = fit_linear_path({"query": x}, labels, {}, labels[:0], 3, **options)
    scaled = ((x - x.mean(0)) / x.std(0)).double().numpy()
    model = LogisticRegression(C=0.01, class_weight="balanced", tol=1e-8, max_iter=5000).fit(scaled, labels.numpy())
    ours = (x @ fit.weights["query"].T + fit.bias).log_softmax(1).numpy()
    np.testing.assert_allclose(ours, model.predict_log_proba(scaled), atol=1e-2, rtol=1e-3)


def test_the_loss_is_a_mean_over_rows_whatever_the_batch(make_model):
    model, rows = make_model(answers=2).eval(), planted(40, 3)
    labels = torch.tensor([row["labels"] for row in rows])
    plain = model(**default_data_collator(rows)).loss
    model.class_weights = balanced_weights(labels, 2)
    whole, parts = (
        torch.stack([model(**default_data_collator(rows[i : i + size])).loss for i in range(0, 40, size)]).mean()
        for size in (40, 10)
    )
    torch.testing.assert_close(whole, parts)
    batch = default_data_collator(rows)
    each = torch.nn.functional.cross_entropy(model(**batch).logits, batch["labels"], reduction="none")
    torch.testing.assert_close(whole, (each * model.class_weights[labels]).mean())
    assert not torch.isclose(whole, plain)
    assert not any("class_weights" in name for name in model.state_dict())


@pytest.mark.parametrize("way", ["linear path", "fuser"])
def test_a_rare_answer_is_found_more_often(make_model, tmp_path, way):
    found = []
    questions, validation, test = (planted(count, seed) for seed, count in enumerate((480, 240, 600)))
    args = TrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, logging_strategy="no",
        learning_rate=3e-3, save_strategy="no", per_device_train_batch_size=32, per_device_eval_batch_size=240,
        max_steps=40 if way == "fuser" else 4,
    )  # fmt: skip
    for balanced in (False, True):
        torch.manual_seed(0)
        model = make_model(answers=2, linear_path=["query"] if way == "linear path" else [])
        if balanced:
            model.class_weights = balanced_weights(torch.tensor([row["labels"] for row in questions]), 2)
        if way == "fuser":
            train_answers(model, questions, default_data_collator, args)
        else:
            growth = grow_answers(model, questions, default_data_collator, args, eval_questions=validation)
            assert growth.shares.fuser == 0
        found.append(recall(model, test))
    (rare, frequent), (balanced_rare, balanced_frequent) = found
    assert balanced_rare > rare + 0.15
    assert balanced_rare + balanced_frequent > rare + frequent
    assert frequent > balanced_frequent > 0.6  # what is gained there is lost here
