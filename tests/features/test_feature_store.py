import os
import pickle

import pytest
import torch

from otmerge_hf.features import compute_features
from otmerge_hf.features.statistics import feature_statistics


ROWS, DIM = 37, 5


def _features(ragged):
    generator = torch.Generator().manual_seed(1)
    lengths = [1 + row % 4 if ragged else 3 for row in range(ROWS)]
    return [100 + 0.01 * torch.randn(n, DIM, generator=generator) for n in lengths]


def _store(tmp_path, rows, shard_size=10):
    def encode(names):
        picked = [rows[int(name)] for name in names]
        tokens = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True, padding_value=1e9)
        lengths = torch.tensor([len(row) for row in picked])
        return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]

    names = [str(i) for i in range(len(rows))]
    return compute_features(
        encode, names, cache_dir=tmp_path, key={}, batch_size=4, shard_size=shard_size, progress=False
    )


@pytest.fixture(params=["ragged", "equal", "equal, one shard"])
def rows_and_store(request, tmp_path):
    rows = _features(request.param == "ragged")
    return rows, _store(tmp_path, rows, 100 if "one" in request.param else 10)


@pytest.mark.parametrize("kind", [list, torch.tensor, tuple])
def test_batch_returns_the_rows_padded_to_the_longest(rows_and_store, kind):
    rows, store = rows_and_store
    ids = [36, 0, 9, 10, 0, 21]
    features, mask = store.batch(kind(ids))
    longest = max(len(rows[i]) for i in ids)
    assert features.shape == (6, longest, DIM)
    assert mask.shape == (6, longest)
    assert mask.dtype == torch.int64
    for place, row in enumerate(ids):
        assert torch.equal(features[place, mask[place].bool()], rows[row])
        assert mask[place].tolist() == [1] * len(rows[row]) + [0] * (longest - len(rows[row]))
    assert not features[~mask.bool()].any()


def test_batch_is_a_copy(rows_and_store):
    rows, store = rows_and_store
    store.batch([5])[0].fill_(7)
    assert torch.equal(store.batch([5])[0][0], rows[5])


@pytest.mark.parametrize("bad", [-1, ROWS])
def test_rows_out_of_range_are_named(rows_and_store, bad):
    with pytest.raises(IndexError, match=f"row {bad} is out of range: the store has rows 0 to 36"):
        rows_and_store[1].batch([0, bad])


def test_empty_batch_is_refused(rows_and_store):
    with pytest.raises(ValueError, match="ids must name at least one row"):
        rows_and_store[1].batch([])
    with pytest.raises(ValueError, match="ids must name at least one row"):
        rows_and_store[1].statistics([])


def test_statistics_equal_torch_over_real_tokens(rows_and_store):
    rows, store = rows_and_store
    mean, std = store.statistics()
    everything = torch.cat(rows).double()
    # In float32 the deviation (0.01 around 100) would be lost to rounding.
    torch.testing.assert_close(mean.double(), everything.mean(0), rtol=1e-7, atol=0)
    torch.testing.assert_close(std.double(), everything.std(0, correction=0), rtol=1e-6, atol=0)
    assert mean.dtype == std.dtype == torch.float32


def test_statistics_of_some_rows_count_each_once(rows_and_store):
    rows, store = rows_and_store
    mean, std = store.statistics([30, 2, 2, 7])
    some = torch.cat([rows[2], rows[7], rows[30]]).double()
    torch.testing.assert_close(mean.double(), some.mean(0), rtol=1e-7, atol=0)
    torch.testing.assert_close(std.double(), some.std(0, correction=0), rtol=1e-6, atol=0)


def test_statistics_are_kept_and_damage_is_noticed(rows_and_store, caplog):
    store = rows_and_store[1]
    first = store.statistics()
    path = store.folder / "statistics.safetensors"
    written = path.stat().st_mtime_ns
    assert all(torch.equal(a, b) for a, b in zip(first, store.statistics(), strict=True))
    assert path.stat().st_mtime_ns == written
    assert caplog.records == []
    data = path.read_bytes()
    for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[:20], b""):
        caplog.clear()
        path.write_bytes(damaged)
        assert all(torch.equal(a, b) for a, b in zip(first, store.statistics(), strict=True))
        assert "statistics.safetensors is damaged" in caplog.text
        assert path.read_bytes() == data


def test_statistics_of_other_shards_are_not_used(tmp_path, caplog):
    one, two = _store(tmp_path / "a", _features(True)), _store(tmp_path / "b", _features(False))
    one.statistics()
    (one.folder / "statistics.safetensors").rename(two.folder / "statistics.safetensors")
    expected = torch.cat(_features(False)).double().mean(0)
    torch.testing.assert_close(two.statistics()[0].double(), expected, rtol=1e-7, atol=0)
    assert "belongs to other features" in caplog.text


def test_moments_do_not_depend_on_the_blocks():
    values = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) + 1e4
    whole = feature_statistics([values])
    for size in (1, 7, 400):
        for a, b in zip(whole, feature_statistics(values.split(size)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def _resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's process accounts")
def test_opening_and_reading_a_few_rows_does_not_load_the_file(tmp_path):
    def encode(names):
        return torch.zeros(len(names), 16, 1024), None

    names = [str(i) for i in range(1024)]
    store = compute_features(encode, names, cache_dir=tmp_path, key={}, batch_size=64, shard_size=256, progress=False)
    blob = pickle.dumps(store)
    del store
    before = _resident_mib()
    store = pickle.loads(blob)
    store.batch([0, 500, 1023])
    assert len(blob) < 20_000
    assert _resident_mib() - before < 16  # the features are 64 MiB


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's process accounts")
def test_reading_all_rows_keeps_none_of_them(tmp_path):
    names = [str(i) for i in range(1024)]
    store = compute_features(
        lambda chunk: (torch.ones(len(chunk), 16, 1024), None),
        names,
        cache_dir=tmp_path,
        key={},
        batch_size=64,
        progress=False,
    )
    store.batch([0])
    before = _resident_mib()
    for start in range(0, 1024, 64):
        assert store.batch(range(start, start + 64))[0].min() == 1
    assert _resident_mib() - before < 24  # the features are 64 MiB, a batch 4


def test_store_travels_to_loader_workers_as_its_path(rows_and_store):
    rows, store = rows_and_store
    received = pickle.loads(pickle.dumps(store))
    assert repr(received) == repr(store)
    features, mask = received.batch(range(ROWS))
    assert torch.equal(features[mask.bool()], torch.cat(rows))
