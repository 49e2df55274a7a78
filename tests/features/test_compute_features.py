import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from otmerge_hf.features import FeatureStore, compute_features


DIM = 6


class Encoder:
    """Deterministic tokens of each text: as many as it has words (padded), or as many as ``length``."""

    def __init__(self, length=None, dim=DIM, fail_at=None):
        self.length, self.dim, self.fail_at = length, dim, fail_at
        self.seen = []

    def tokens(self, text):
        count = self.length or len(text.split())
        generator = torch.Generator().manual_seed(sum(map(ord, text)))
        return torch.randn(count, self.dim, generator=generator)

    def __call__(self, texts):
        if self.fail_at is not None and len(self.seen) >= self.fail_at:
            raise ConnectionError("power cut")
        self.seen += texts
        rows = [self.tokens(text) for text in texts]
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), longest, self.dim), torch.nan)  # padding may hold anything
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)], mask[i, : len(row)] = row, 1
        return tokens, mask


TEXTS = [f"text {i} " + "word " * (i % 5) for i in range(23)]


def run(encode, tmp_path, inputs=TEXTS, **changes):
    arguments = {"key": {"encoder": "a"}, "batch_size": 2, "shard_size": 5, "progress": False}
    return compute_features(encode, inputs, cache_dir=tmp_path, **(arguments | changes))


def assert_same_as_direct(store, encode, inputs=TEXTS):
    assert len(store) == len(inputs)
    features, mask = store.batch(range(len(inputs)))
    for row, text in enumerate(inputs):
        expected = encode.tokens(text)
        assert mask[row].sum() == len(expected)
        assert torch.equal(features[row, : len(expected)], expected)
        assert not features[row, len(expected) :].any()


def shards(store):
    return sorted(store.folder.glob("rows-*"))


@pytest.mark.parametrize("length", [None, 4])
@pytest.mark.parametrize("shard_size", [5, 23, 100])
def test_features_equal_direct_encoding(tmp_path, length, shard_size):
    encode = Encoder(length)
    store = run(encode, tmp_path, shard_size=shard_size)
    assert encode.seen == TEXTS
    assert len(shards(store)) == -(-23 // shard_size)
    assert_same_as_direct(store, encode)


def test_second_run_computes_nothing_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="otmerge_hf.features.compute")
    first = run(Encoder(), tmp_path)
    again = Encoder()
    second = run(again, tmp_path, batch_size=7, shard_size=9)
    assert (first.reused, second.reused, again.seen) == (False, True, [])
    assert second.folder == first.folder
    messages = [record.message for record in caplog.records]
    assert messages == [
        f"computed features of 23 of 23 rows, kept in {first.folder}",
        f"reused features of 23 rows from {first.folder}",
    ]


def test_interrupted_run_goes_on_at_the_first_missing_shard(tmp_path, caplog):
    with pytest.raises(ConnectionError):
        run(Encoder(fail_at=12), tmp_path)
    encode = Encoder()
    store = run(encode, tmp_path)
    assert encode.seen == TEXTS[10:]
    assert not store.reused
    assert caplog.records == []
    assert_same_as_direct(store, encode)
    assert not list(store.folder.glob(".tmp-*"))


def test_interrupted_store_cannot_be_opened_by_hand(tmp_path):
    with pytest.raises(ConnectionError):
        run(Encoder(fail_at=12), tmp_path)
    (folder,) = tmp_path.iterdir()
    with pytest.raises(FileNotFoundError, match=r"index\.json"):
        FeatureStore(folder)


def test_interrupted_run_with_another_shard_size_starts_over(tmp_path, caplog):
    with pytest.raises(ConnectionError):
        run(Encoder(fail_at=12), tmp_path)
    encode = Encoder()
    store = run(encode, tmp_path, shard_size=8)
    assert encode.seen == TEXTS
    assert "does not hold 8 rows as asked for" in caplog.text
    assert len(shards(store)) == 3
    assert_same_as_direct(store, encode)


def _flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("damage", [_flip_a_byte, _truncate, Path.unlink])
@pytest.mark.parametrize("finished", [True, False])
def test_damaged_shard_is_named_and_only_it_is_computed_again(tmp_path, caplog, damage, finished):
    store = run(Encoder(), tmp_path)
    bad = shards(store)[2]
    damage(bad)
    if not finished:
        (store.folder / "index.json").unlink()
    else:
        with pytest.raises(ValueError, match=f"{bad.name} .*compute_features again"):
            FeatureStore(store.folder)
    encode = Encoder()
    repaired = run(encode, tmp_path)
    assert encode.seen == TEXTS[10:15]
    assert not repaired.reused
    if finished or damage is not Path.unlink:
        assert bad.name in caplog.text
    assert_same_as_direct(repaired, encode)
    assert run(Encoder(fail_at=0), tmp_path).reused


def test_size_check_sees_truncation_but_trusts_the_bytes(tmp_path):
    store = run(Encoder(), tmp_path)
    _flip_a_byte(shards(store)[1])
    assert run(Encoder(fail_at=0), tmp_path, verify="size").reused
    _truncate(shards(store)[1])
    encode = Encoder()
    run(encode, tmp_path, verify="size")
    assert encode.seen == TEXTS[5:10]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda index: index | {"format": 99}, "has format 99"),
        (lambda index: index | {"feature_dim": 7}, "is damaged"),
        (lambda index: {"rows": 3}, "is damaged"),
        (lambda index: ["no", "dict"], "is damaged"),
    ],
)
def test_stale_or_damaged_index_is_named_and_rebuilt_from_sound_shards(tmp_path, caplog, edit, message):
    store = run(Encoder(), tmp_path)
    path = store.folder / "index.json"
    original = path.read_text()
    path.write_text(json.dumps(edit(json.loads(original))))
    with pytest.raises(ValueError, match=message):
        FeatureStore(store.folder)
    rebuilt = run(Encoder(fail_at=0), tmp_path)
    assert str(path) in caplog.text
    assert message in caplog.text
    assert path.read_text() == original
    assert_same_as_direct(rebuilt, Encoder())


def test_index_and_shards_of_another_key_are_not_used(tmp_path, caplog):
    ours = run(Encoder(), tmp_path)
    other = run(Encoder(dim=3), tmp_path, key={"encoder": "b"})
    for path in ours.folder.iterdir():
        path.unlink()
    for path in other.folder.iterdir():
        path.rename(ours.folder / path.name)
    encode = Encoder()
    store = run(encode, tmp_path)
    assert encode.seen == TEXTS
    assert "belongs to another key" in caplog.text
    assert_same_as_direct(store, encode)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"key": {"encoder": "a", "weights": "x"}}, "weights"), ({"dtype": torch.float16}, "stored_dtype")],
)
def test_another_key_computes_anew_and_names_what_changed(tmp_path, caplog, changes, named):
    first = run(Encoder(), tmp_path)
    second = run(Encoder(), tmp_path, **changes)
    assert not second.reused
    assert second.folder != first.folder
    assert f"{first.folder} has features of the same inputs, but not of the same {named}; not used" in caplog.text


def test_other_inputs_get_their_own_store_without_a_warning(tmp_path, caplog):
    first = run(Encoder(), tmp_path)
    second = run(Encoder(), tmp_path, inputs=TEXTS[::-1])
    assert second.folder != first.folder
    assert_same_as_direct(second, Encoder(), TEXTS[::-1])
    assert caplog.records == []


def test_tuples_in_the_key_are_read_back_as_the_same_key(tmp_path, caplog):
    run(Encoder(), tmp_path, key={"size": (128, 128)})
    assert run(Encoder(fail_at=0), tmp_path, key={"size": (128, 128)}).reused
    assert caplog.records == []


def test_two_writers_at_once_agree(tmp_path):
    class Slow(Encoder):
        def __call__(self, texts):
            time.sleep(0.005)
            return super().__call__(texts)

    stores = {}

    def work(name):
        stores[name] = run(Slow(), tmp_path)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "ab":
        assert_same_as_direct(stores[name], Encoder())
    assert len(shards(stores["a"])) == 5
    assert run(Encoder(fail_at=0), tmp_path).reused


def test_leftovers_of_a_killed_writer_are_removed_when_old(tmp_path):
    folder = run(Encoder(), tmp_path).folder
    for name, age in ((".tmp-old", 7200), (".tmp-young", 1)):
        (folder / name).write_text("half a shard")
        os.utime(folder / name, (time.time() - age,) * 2)
    run(Encoder(fail_at=0), tmp_path)
    assert [path.name for path in folder.glob(".tmp-*")] == [".tmp-young"]


def test_half_precision_is_kept(tmp_path):
    store = run(Encoder(4), tmp_path, dtype=torch.bfloat16)
    features, _ = store.batch([3, 22])
    assert features.dtype == store.dtype == torch.bfloat16
    assert torch.equal(features[1], Encoder(4).tokens(TEXTS[22]).bfloat16())


def test_encode_runs_without_gradient(tmp_path):
    weight = torch.ones(DIM, requires_grad=True)
    store = run(lambda texts: (torch.ones(len(texts), 2, DIM) * weight, None), tmp_path)
    assert not store.batch([0])[0].requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_numbers_name_the_input(tmp_path, value):
    def encode(texts):
        tokens, mask = Encoder()(texts)
        for i, text in enumerate(texts):
            if text == TEXTS[13]:
                tokens[i, 0, 2] = value
        return tokens, mask

    with pytest.raises(ValueError, match=r"NaN or infinity .* inputs\[13\] = 'text 13 "):
        run(encode, tmp_path)


def test_values_too_large_for_the_stored_type_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"infinity \(as torch.float16\) for inputs\[0\]"):
        run(lambda texts: (torch.full((len(texts), 1, 2), 1e6), None), tmp_path, dtype=torch.float16)


def test_change_of_feature_size_is_refused(tmp_path):
    def encode(texts):
        return torch.zeros(len(texts), 1, 4 if TEXTS[8] in texts else 3), None

    with pytest.raises(ValueError, match=r"returned 4 features per token for rows 7 to 8, but 3 before"):
        run(encode, tmp_path)
    with pytest.raises(ValueError, match="returned 4 features"):
        run(encode, tmp_path)  # also against the shard that is already there


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((torch.zeros(2, 3), None), r"tokens of shape \(2, S, D\) for rows 0 to 1; got \(2, 3\)"),
        ((torch.zeros(3, 3, 4), None), r"got \(3, 3, 4\)"),
        ((torch.zeros(2, 3, 4), torch.ones(2, 4)), r"mask of shape \(2, 3\); got \(2, 4\)"),
        ((torch.zeros(2, 3, 4), torch.tensor([[1, 1, 1], [0, 0, 0]])), r"no real token for inputs\[1\]"),
    ],
)
def test_wrong_shapes_are_refused(tmp_path, result, message):
    with pytest.raises(ValueError, match=message):
        run(lambda texts: result, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "inputs must be a non-empty sequence"),
        ({"inputs": "one text"}, "inputs must be a non-empty sequence"),
        ({"batch_size": 0}, "batch_size must be a positive"),
        ({"shard_size": 2.5}, "shard_size must be a positive"),
        ({"dtype": torch.int8}, "dtype must be a floating-point"),
        ({"key": {"encoder": object()}}, "key must hold JSON values"),
        ({"verify": "no"}, "verify must be one of full, size; got 'no'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(Encoder(), tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_progress_bar_is_optional(tmp_path, capsys):
    run(Encoder(), tmp_path, progress=False)
    assert capsys.readouterr().err == ""
    run(Encoder(), tmp_path, inputs=TEXTS[:7], progress=True)
    assert "7/7" in capsys.readouterr().err
