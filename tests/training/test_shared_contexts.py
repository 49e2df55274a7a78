"""Trainings whose batches hold several questions of a context: the same rows, the same gradients, fewer contexts."""

import copy

import pytest
import torch
from datasets import Dataset
from tiny_training import CONTEXT_DIM, QUERY_DIM, TinyFeatures
from transformers import TrainingArguments, default_data_collator

from otmerge_hf.features import FeatureCollator, compute_features
from otmerge_hf.training import ContrastiveLossCallback, grow_answers, train_answers
from otmerge_hf.training.measuring import answer_logits, measure_parts
from otmerge_hf.training.shared_contexts import QuestionGroups, by_context, contexts_of


@pytest.fixture
def collator(tmp_path):
    """Four contexts and twelve queries of random tokens."""
    generator = torch.Generator().manual_seed(0)

    def store(name, count, width):
        def encode(items):
            return torch.stack([torch.randn(3, width, generator=generator) for _ in items]), None

        return compute_features(encode, list(range(count)), cache_dir=tmp_path / name, key={}, progress=False)

    return FeatureCollator(store("contexts", 4, CONTEXT_DIM), store("queries", 12, QUERY_DIM))


ROWS = [{"context_features": i % 4, "query_features": i, "labels": i % 3 % 2} for i in range(12)]


def arguments(folder, **options):
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    defaults = {"max_steps": 2, "learning_rate": 1e-2, "save_strategy": "no", "per_device_train_batch_size": 12}
    return TrainingArguments(str(folder), **quiet | defaults | options)


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_groups_hold_every_row_once_and_one_context_each(most):
    groups = [
        group for group in (QuestionGroups(ROWS, most, seed=3)[i] for i in range(len(QuestionGroups(ROWS, most, 3))))
    ]
    assert sorted(row["query_features"] for group in groups for row in group) == list(range(12))
    assert all(len({row["context_features"] for row in group}) == 1 for group in groups)
    assert max(map(len, groups)) <= most
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    again = QuestionGroups(ROWS, most, seed=3)
    assert [again[i] for i in range(len(again))] == groups


def test_a_step_over_shared_contexts_is_the_step_over_single_rows(make_model, collator, tmp_path):
    start, adapted = make_model(answers=2), []
    plain = arguments(tmp_path, optim="sgd")  # Adam would magnify roundings of gradients that are zero
    found = {}
    for most in (1, 3):
        model = copy.deepcopy(start)
        model.otmerge.context_adapter.register_forward_hook(lambda *call: adapted.append(len(call[-1])))
        trainer = train_answers(model, ROWS, collator, plain, eval_questions=ROWS[:7], questions_per_context=most)
        found[most] = model.state_dict(), trainer.evaluate()
    assert adapted == [12, 12, 7, 4, 4, 4]  # two steps and an evaluation each
    for name, value in found[1][0].items():
        torch.testing.assert_close(found[3][0][name], value, atol=1e-6, rtol=1e-4)
    assert found[3][1]["eval_accuracy"] == found[1][1]["eval_accuracy"]
    assert found[3][1]["eval_loss"] == pytest.approx(found[1][1]["eval_loss"], abs=1e-4)


def test_a_step_has_about_as_many_questions_as_the_arguments_say(make_model, collator, tmp_path):
    trainer = train_answers(
        make_model(answers=2),
        ROWS,
        collator,
        arguments(tmp_path, per_device_train_batch_size=6),
        questions_per_context=3,
    )
    assert trainer.args.per_device_train_batch_size == 2
    assert {len(batch["labels"]) for batch in trainer.get_train_dataloader()} == {6}


@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_rows_are_grouped_by_number_and_lose_columns_that_are_no_inputs(make_model, collator, tmp_path, form):
    """As Trainer does with single rows; and equal tensors, which are different keys, are one context."""
    model, adapted = make_model(answers=2), []
    model.otmerge.context_adapter.register_forward_hook(lambda *call: adapted.append(len(call[-1])))
    rows = Dataset.from_list([row | {"question_id": 100 + row["query_features"]} for row in ROWS]).with_format(form)
    train_answers(model, rows, collator, arguments(tmp_path), questions_per_context=3)
    assert adapted == [4, 4]


def test_contrasted_questions_of_one_context_are_no_negatives(make_model, collator, tmp_path):
    def train(rows):
        options = {"terms": [ContrastiveLossCallback(1.0)], "questions_per_context": 3}
        return train_answers(make_model(answers=2), rows, collator, arguments(tmp_path), **options)

    with pytest.raises(ValueError, match="expected rows with `group_ids`"):
        train(ROWS)
    train([row | {"group_ids": row["context_features"]} for row in ROWS])


def test_growing_takes_them_too_and_goes_on_where_it_stopped(make_model, collator, tmp_path):
    def grow(model, keep):
        options = {"eval_questions": ROWS[4:], "questions_per_context": 3, "keep": keep}
        grow_answers(model, ROWS, collator, arguments(tmp_path / "run", max_steps=6), **options)
        return model.state_dict()

    start = make_model(answers=2, linear_path=["query", "context", "cosine"])
    once = grow(copy.deepcopy(start), None)
    kept = grow(copy.deepcopy(start), tmp_path / "kept")
    again = grow(copy.deepcopy(start), tmp_path / "kept")
    for name, value in once.items():
        assert torch.equal(kept[name], value)
        assert torch.equal(again[name], value)


def test_what_cannot_be_shared_is_named(make_model, collator, tmp_path):
    model = make_model(answers=2)
    with pytest.raises(ValueError, match="`collator` is a function; expected a FeatureCollator or a RawCollator"):
        train_answers(
            model, TinyFeatures(answers=2), default_data_collator, arguments(tmp_path), questions_per_context=2
        )
    rest = FeatureCollator(None, collator.stores["query_features"])
    rows = [{"context_features": torch.zeros(3, CONTEXT_DIM), "query_features": 0, "labels": 0}]
    with pytest.raises(ValueError, match="`collator` has no `context_store`"):
        train_answers(model, rows, rest, arguments(tmp_path), questions_per_context=2)
    for most in (0, -1, 1.5):
        with pytest.raises(ValueError, match=f"`questions_per_context` is {most}; expected a whole number"):
            train_answers(model, ROWS, collator, arguments(tmp_path), questions_per_context=most)
    grown, encoded = make_model(answers=2, linear_path=["query"]), []
    grown.otmerge.context_adapter.register_forward_hook(lambda *call: encoded.append(1))
    with pytest.raises(ValueError, match="`questions_per_context` is 0"):
        grow_answers(grown, ROWS, collator, arguments(tmp_path), eval_questions=ROWS, questions_per_context=0)
    assert not encoded, "before any work"
    args = arguments(tmp_path, accelerator_config={"dispatch_batches": True})
    with pytest.raises(ValueError, match="`dispatch_batches`, which cuts a batch apart"):
        train_answers(model, ROWS, collator, args, questions_per_context=2)
    args = arguments(tmp_path)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="feeds 2 devices"):
        train_answers(model, ROWS, collator, args, questions_per_context=2)


@pytest.mark.parametrize("parts", [["query", "context", "cosine"], ["late_interaction", "transport", "context"]])
def test_rows_are_measured_with_each_context_once_and_in_their_order(make_model, collator, parts):
    model = make_model(answers=2, linear_path=parts)
    torch.nn.init.normal_(model.linear_path.maps["context"].weight)
    rows = [ROWS[i] for i in torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()]
    seen = []

    class Counting(FeatureCollator):
        def __call__(self, rows):
            seen.append(super().__call__(rows))
            return seen[-1]

    counting = Counting(*(collator.stores[f"{side}_features"] for side in ("context", "query")))
    measured, labels = measure_parts(model, Dataset.from_list(rows), counting, 6)
    logits = answer_logits(model, rows, counting, 6)
    assert [len(batch["context_features"]) for batch in seen] == [2, 2, 2, 2]  # 3 rows of each of 4, 6 a batch
    assert labels.tolist() == [row["labels"] for row in rows]
    with torch.no_grad():
        for place, row in enumerate(rows):
            batch = collator([row])
            batch.pop("labels")
            torch.testing.assert_close(logits[place, None], model.eval()(**batch).logits, atol=1e-5, rtol=1e-5)
            sides = model.otmerge.read_inputs(batch)
            context = model.otmerge.embed_side("context", *sides[0][:-1])
            query = model.otmerge.embed_side("query", *sides[1])
            for name, part in model.linear_path.measure(query, context).items():
                torch.testing.assert_close(measured[name][place, None], part, atol=1e-5, rtol=1e-5)


def test_rows_that_hold_their_contexts_stay_as_they_are():
    rows = [{"context_features": torch.zeros(2, CONTEXT_DIM)}] * 3
    assert by_context(rows, default_data_collator)[:2] == (rows, default_data_collator)


def test_contexts_are_read_of_rows_of_any_kind():
    joined = torch.utils.data.ConcatDataset([ROWS, Dataset.from_list(ROWS)])
    expected = [row["context_features"] for row in ROWS]
    assert contexts_of(joined) == expected * 2
    assert contexts_of(torch.utils.data.Subset(joined, [13, 2])) == [expected[1], expected[2]]
    made = Dataset.from_dict({"image": expected}).with_transform(lambda rows: {"context_features": rows["image"]})
    assert contexts_of(made) == expected


def test_a_subset_is_not_opened_to_learn_its_contexts():
    class Opened(Dataset):
        def __getitem__(self, row):
            if isinstance(row, int):
                raise AssertionError("a row was opened")
            return super().__getitem__(row)

    rows = Opened.from_list(ROWS)
    assert contexts_of(torch.utils.data.Subset(rows, [3])) == [ROWS[3]["context_features"]]
