import pytest
import torch

from otmerge_hf.features import FeatureCollator, compute_features
from otmerge_hf.training import (
    ContrastiveLossCallback,
    MixedCollator,
    PairedLossCallback,
    SinkhornLossCallback,
    mixed_dataset,
)


def test_one_epoch_goes_over_everything_once_or_more():
    pairs = [[0, 10], [1, 11], [2, 12]]
    dataset = mixed_dataset(pairs, range(100, 110), range(200, 207), unpaired_per_pair=2)
    assert len(dataset) == 5  # ten contexts, two a block
    paired = [(c[0], q[0]) for c, q in zip(dataset["context_features"], dataset["query_features"], strict=True)]
    assert set(paired) == {(0, 10), (1, 11), (2, 12)}
    contexts = [c for block in dataset["context_features"] for c in block[1:]]
    queries = [q for block in dataset["query_features"] for q in block[1:]]
    assert sorted(contexts) == list(range(100, 110))
    assert set(queries) == set(range(200, 207))
    assert all(mask == [1, 0, 0] for mask in dataset["pair_mask"])


def test_both_sides_are_drawn_independently():
    dataset = mixed_dataset([[0, 0]], range(50), range(50), unpaired_per_pair=1)
    together = [c[1] == q[1] for c, q in zip(dataset["context_features"], dataset["query_features"], strict=True)]
    assert sum(together) < 10


def test_seed_decides():
    make = lambda seed: mixed_dataset([[0, 0], [1, 1]], range(9), range(9), 3, seed=seed).to_dict()  # noqa: E731
    assert make(0) == make(0)
    assert make(0) != make(1)


def test_groups_join_pairs_that_share_a_side():
    pairs = [[0, 0], [0, 1], [5, 1], [7, 7], [8, 9]]
    dataset = mixed_dataset(pairs, [3], [3], unpaired_per_pair=1)
    groups = {tuple(pair): ids[0] for pair, ids in zip(_first(dataset), dataset["group_ids"], strict=True)}
    assert groups[(0, 0)] == groups[(0, 1)] == groups[(5, 1)]
    assert len({groups[(0, 0)], groups[(7, 7)], groups[(8, 9)]}) == 3
    assert all(ids[1] == -1 for ids in dataset["group_ids"])


def _first(dataset):
    return [[c[0], q[0]] for c, q in zip(dataset["context_features"], dataset["query_features"], strict=True)]


def test_groups_may_be_given_where_all_pairs_are_connected(caplog):
    pairs = [[0, 10], [0, 11], [1, 10], [1, 11]]
    mixed_dataset(pairs, [0], [10], unpaired_per_pair=0)
    assert "no negatives" in caplog.text
    caplog.clear()
    dataset = mixed_dataset(pairs, [0], [10], unpaired_per_pair=1, group_ids=[10, 11, 10, 11])
    assert all(q[0] == group[0] for q, group in zip(dataset["query_features"], dataset["group_ids"], strict=True))
    assert all(group[1] == -1 for group in dataset["group_ids"])
    assert not caplog.text


def test_pairs_alone_and_labels():
    dataset = mixed_dataset([[0, 0], [1, 1]], [], [], unpaired_per_pair=0, labels=[4, 5])
    assert sorted(zip(_first(dataset), dataset["labels"], strict=True)) == [([0, 0], [4]), ([1, 1], [5])]
    mixed = mixed_dataset([[0, 0], [1, 1]], [2], [3], unpaired_per_pair=2, labels=[4, 5])
    assert all(answers[1:] == [-100, -100] for answers in mixed["labels"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1], [1], 1), "`pairs` has shape"),
        (([[0, 0]], [1], [], 1), "`query_ids` is empty"),
        (([[0, 0]], [1], [1], -1), "`unpaired_per_pair` is -1"),
        (([[0, 0]], [1], [1], 1, 0, [1, 2]), "`labels` holds 2 values for 1 pairs"),
        (([[0, 0]], [1], [1], 1, 0, None, [1, 2]), "`group_ids` holds 2 values for 1 pairs"),
        (([[0, 0]], [1], [1], 1, 0, None, [-1]), "`group_ids` holds -1"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixed_dataset(*arguments)


def test_collator_refuses_plain_rows():
    with pytest.raises(ValueError, match="no `pair_mask`"):
        MixedCollator(lambda rows: {})([{"context_features": 1}])


@pytest.fixture
def collator(tmp_path):
    """Feature stores of twenty inputs a side, the number of the input in the first feature."""

    def store(width, name):
        def encode(numbers):
            tokens = torch.randn(len(numbers), 2, width, generator=torch.Generator().manual_seed(numbers[0]))
            tokens[:, :, 0] = torch.tensor(numbers)[:, None] / 10
            return tokens, None

        return compute_features(
            encode, list(range(20)), cache_dir=tmp_path / name, key={"side": name}, batch_size=5, progress=False
        )

    return MixedCollator(FeatureCollator(store(16, "context"), store(8, "query")))


def test_batches_have_the_same_share_of_pairs(collator):
    dataset = mixed_dataset([[0, 1], [2, 3]], range(4, 20), range(4, 20), unpaired_per_pair=3)
    batch = collator([dataset[1], dataset[0], dataset[3]])
    assert batch["context_features"].shape == (12, 2, 16)
    assert batch["pair_mask"].tolist() == [1, 0, 0, 0] * 3
    expected = [c for i in (1, 0, 3) for c in dataset[i]["context_features"]]
    assert (batch["context_features"][:, 0, 0] * 10).round().long().tolist() == expected


def test_trainer_learns_pairs_from_pairs_and_shape_from_all(collator, make_model, make_trainer, logs_of, monkeypatch):
    dataset = mixed_dataset([[0, 1], [2, 3]], range(4, 20), range(4, 20), unpaired_per_pair=3)
    model, seen = make_model(), []
    monkeypatch.setattr(
        model, "_sum_terms", lambda loss, out: (seen.append(out), type(model)._sum_terms(model, loss, out))[1]
    )
    callbacks = [PairedLossCallback(), SinkhornLossCallback(), ContrastiveLossCallback()]
    trainer = make_trainer(
        model, callbacks, dataset=dataset, collator=collator, per_device_train_batch_size=2, max_steps=2
    )
    trainer.train()
    for outputs, paired in zip(seen, logs_of(trainer, "paired"), strict=True):
        assert len(outputs.context_embeds) == 8
        rows = outputs.pair_mask.bool()
        assert rows.sum() == 2
        distance = (outputs.context_embeds[rows] - outputs.query_embeds[rows]).square().sum(1).mean()
        assert paired == pytest.approx(distance.item(), rel=1e-5)
    assert len(logs_of(trainer, "sinkhorn")) == 2


def test_windows_equal_batches_with_mixed_rows(collator, make_model, make_trainer, logs_of):
    dataset = mixed_dataset([[0, 1], [2, 3], [4, 5]], range(20), range(20), unpaired_per_pair=2)
    histories = []
    for size, steps in ((4, 1), (1, 4)):
        callbacks = [PairedLossCallback(), SinkhornLossCallback(), ContrastiveLossCallback()]
        trainer = make_trainer(
            make_model(),
            callbacks,
            dataset=dataset,
            collator=collator,
            optim="sgd",
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=2,
        )
        trainer.train()
        histories.append([logs_of(trainer, key) for key in ("loss", "grad_norm", "contrastive")])
    for whole, parts in zip(*histories, strict=True):
        assert parts == pytest.approx(whole, rel=2e-4)


def test_question_answering_ignores_the_unpaired(collator, make_model, make_trainer, logs_of):
    dataset = mixed_dataset([[0, 1], [2, 3]], range(4, 20), range(4, 20), unpaired_per_pair=3, labels=[0, 2])
    trainer = make_trainer(
        make_model(answers=3),
        [SinkhornLossCallback(0.1)],
        dataset=dataset,
        collator=collator,
        per_device_train_batch_size=2,
        max_steps=2,
    )
    trainer.train()
    assert all(torch.isfinite(torch.tensor(logs_of(trainer, "loss"))))
