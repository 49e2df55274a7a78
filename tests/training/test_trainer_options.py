"""Options of the stock Trainer do not change what terms teach: streams, a smaller batch found, long evaluations."""

import gc

import pytest
import torch
from tiny_training import CONTEXT_DIM, QUERY_DIM, all_callbacks
from transformers import Trainer, TrainerCallback


TERMS = ("sinkhorn", "reconstruction", "mmd")


@pytest.fixture
def train(make_model, make_trainer, monkeypatch):
    monkeypatch.setattr(Trainer, "_get_train_sampler", lambda self, dataset=None: None)  # rows in their own order

    def run(break_model=lambda model: None, **options):
        model = make_model(answers=3, reconstruction=True)
        break_model(model)
        trainer = make_trainer(model, [all_callbacks()[name] for name in TERMS], optim="sgd", **options)
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert len(logs) == trainer.args.max_steps
        return [{name: entry[name] for name in ("loss", "grad_norm", *TERMS)} for entry in logs], trainer

    return run


@pytest.mark.parametrize("window", [1, 4])
def test_a_stream_teaches_what_its_rows_do(train, features, window):
    rows = features(24, answers=3)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(rows.rows)

    options = {"per_device_train_batch_size": 8 // window, "gradient_accumulation_steps": window, "max_steps": 4}
    assert train(dataset=Stream(), **options)[0] == train(dataset=rows, **options)[0]


def test_a_batch_that_memory_did_not_hold_leaves_nothing_behind(train, features):
    """The second micro-batch of the first window fails; then all is as if the smaller size had been asked for."""
    calls = []

    def break_model(model):
        def full(*_):
            calls.append(None)
            if len(calls) == 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

        model.register_forward_pre_hook(full)

    options = {"dataset": features(48, answers=3), "gradient_accumulation_steps": 2}
    found, trainer = train(break_model, auto_find_batch_size=True, **options)
    size = trainer.state.train_batch_size
    assert len(calls) == 2 + 3 * 2
    assert size < 8
    expected, _ = train(per_device_train_batch_size=size, **options)
    assert found == expected


class Drawn(torch.utils.data.Dataset):
    """Rows that are made when they are asked for, so that they take no memory themselves."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        generator = torch.Generator().manual_seed(row)
        return {
            "context_features": torch.randn(3, CONTEXT_DIM, generator=generator),
            "query_features": torch.randn(2, QUERY_DIM, generator=generator),
            "labels": row % 3,
        }


class LiveBytes(TrainerCallback):
    """Bytes of all tensors that are alive after each batch of an evaluation."""

    def __init__(self):
        self.seen = []

    def on_prediction_step(self, *args, **kwargs):
        gc.collect()
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for t in gc.get_objects()
            if type(t) in (torch.Tensor, torch.nn.Parameter)  # other tests leave fake ones, which have no bytes
        }
        self.seen.append(sum(storages.values()))


def test_an_evaluation_keeps_answers_and_labels_alone(make_model, make_trainer):
    """Tokens, plans and embeddings of a batch are let go: 32 batches hold what two do, but for logits and labels."""
    batch, batches = 8, 32
    live = LiveBytes()
    trainer = make_trainer(
        make_model(answers=3, reconstruction=True),
        [*(all_callbacks()[name] for name in TERMS), live],
        evaluation=Drawn(batch * batches),
        per_device_eval_batch_size=batch,
    )
    trainer.evaluate()
    assert len(live.seen) == batches
    kept = batch * (3 * 4 + 8)  # float32 logits of three answers, an int64 label
    terms = 64 * len(TERMS)  # a few numbers of each
    assert live.seen[-1] - live.seen[1] <= (batches - 2) * (kept + terms)
    assert batch * (3 * CONTEXT_DIM + 2 * QUERY_DIM) * 4 > 2 * (kept + terms)  # the inputs alone would be seen
