import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedModel, Trainer, TrainingArguments

from otmerge_hf.features import FeatureCollator, compute_features


def _store(tmp_path, name, rows, length, dim):
    """Row i is full of the number i; text rows have 1 + i % length tokens."""

    def encode(names):
        ids = torch.tensor([int(name) for name in names])
        tokens = ids[:, None, None].expand(-1, length, dim).float()
        mask = torch.arange(length) < 1 + ids[:, None] % length if name == "query" else None
        return tokens, mask

    names = [str(i) for i in range(rows)]
    return compute_features(encode, names, cache_dir=tmp_path, key={"n": name}, batch_size=4, progress=False)


@pytest.fixture
def stores(tmp_path):
    return _store(tmp_path, "context", 10, 4, 8), _store(tmp_path, "query", 7, 3, 5)


def test_both_sides_and_hard_labels(stores):
    rows = [
        {"context_features": 9, "query_features": 0, "labels": 2},
        {"context_features": 3, "query_features": 4, "labels": 0},
    ]
    batch = FeatureCollator(*stores)(rows)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "context_features": (2, 4, 8),
        "context_features_mask": (2, 4),
        "query_features": (2, 2, 5),
        "query_features_mask": (2, 2),
        "labels": (2,),
    }
    assert batch["context_features"][:, 0, 0].tolist() == [9, 3]
    assert batch["query_features"][:, 0, 0].tolist() == [0, 4]
    assert batch["query_features_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch["context_features_mask"].dtype == batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [2, 0]


@pytest.mark.parametrize("wrap", [list, torch.tensor])
def test_soft_labels(stores, wrap):
    rows = [{"context_features": 0, "query_features": 0, "labels": wrap([0.0, 0.3, 1.0])}] * 2
    labels = FeatureCollator(*stores)(rows)["labels"]
    assert labels.dtype == torch.float32
    torch.testing.assert_close(labels, torch.tensor([[0.0, 0.3, 1.0]] * 2))


def test_means_are_one_token_a_row(stores):
    rows = [{"context_features": 9, "query_features": 4}, {"context_features": 3, "query_features": 0}]
    batch = FeatureCollator(*stores, pooling="mean")(rows)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "context_features": (2, 1, 8),
        "context_features_mask": (2, 1),
        "query_features": (2, 1, 5),
        "query_features_mask": (2, 1),
    }
    assert batch["context_features"][:, 0, 0].tolist() == [9, 3]
    assert batch["query_features"][:, 0, 0].tolist() == [4, 0], "padding must not count"
    assert batch["query_features_mask"].tolist() == [[1], [1]]
    assert batch["query_features_mask"].dtype == torch.int64


def test_unknown_pooling_is_refused(stores):
    with pytest.raises(ValueError, match="pooling must be None or 'mean'; got 'max'"):
        FeatureCollator(*stores, pooling="max")


def test_labels_are_optional(stores):
    assert "labels" not in FeatureCollator(*stores)([{"context_features": 0, "query_features": 0}])


def test_a_side_without_a_store_passes_through(stores):
    rows = [{"context_features": i, "input_ids": [1, 2, i], "labels": i, "question": "text"} for i in range(2)]
    batch = FeatureCollator(stores[0], None)(rows)
    assert sorted(batch) == ["context_features", "context_features_mask", "input_ids", "labels"]
    assert batch["input_ids"].tolist() == [[1, 2, 0], [1, 2, 1]]
    batch = FeatureCollator(stores[0], None, rest=lambda left: {"texts": [row["question"] for row in left]})(rows)
    assert batch["texts"] == ["text", "text"]


@pytest.mark.parametrize("pooling", [None, "mean"])
@pytest.mark.parametrize(("column", "bad"), [("context_features", 10), ("query_features", -1)])
def test_row_out_of_range_names_the_column(stores, column, bad, pooling):
    row = {"context_features": 0, "query_features": 0} | {column: bad}
    with pytest.raises(IndexError, match=f"column {column}: row {bad} is out of range"):
        FeatureCollator(*stores, pooling=pooling)([row])


def test_missing_column_is_named(stores):
    with pytest.raises(ValueError, match=r"row 1 of the batch has no query_features; it has \['context_features'\]"):
        FeatureCollator(*stores)([{"context_features": 0, "query_features": 0}, {"context_features": 0}])


@pytest.mark.parametrize("labels", [(1, [0.5, 0.5]), ([0.5], [0.5, 0.5]), ("yes", "no"), (1, None)])
def test_labels_of_different_kinds_are_refused(stores, labels):
    rows = [{"context_features": 0, "query_features": 0, "labels": value} for value in labels]
    with pytest.raises(ValueError, match="labels must be one class or one list of scores per row"):
        FeatureCollator(*stores)(rows)


def test_partly_labelled_batch_is_refused(stores):
    rows = [{"context_features": 0, "query_features": 0, "labels": 1}, {"context_features": 0, "query_features": 0}]
    with pytest.raises(ValueError, match="row 1 of the batch has no labels"):
        FeatureCollator(*stores)(rows)


class _Probe(PreTrainedModel):
    """Fits one number per context; its forward has the arguments that the collator feeds."""

    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(13, 3)
        self.post_init()

    def forward(
        self,
        context_features=None,
        context_features_mask=None,
        query_features=None,
        query_features_mask=None,
        labels=None,
    ):
        both = torch.cat(
            [context_features.mean(1), query_features.sum(1) / query_features_mask.sum(1, keepdim=True)], 1
        )
        logits = self.head(both)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_stock_trainer_keeps_the_columns(stores, tmp_path):
    rows = Dataset.from_dict(
        {
            "context_features": list(range(10)),
            "query_features": [i % 7 for i in range(10)],
            "labels": [0, 1] * 5,
            "question": ["?"] * 10,
        }
    )
    arguments = TrainingArguments(
        tmp_path / "out", max_steps=2, per_device_train_batch_size=4, report_to="none", disable_tqdm=True, use_cpu=True
    )
    trainer = Trainer(
        _Probe(PreTrainedConfig()), arguments, data_collator=FeatureCollator(*stores), train_dataset=rows
    )
    assert trainer.train().global_step == 2
    assert trainer.predict(rows).predictions.shape == (10, 3)
