import gc
import os
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from otmerge_hf.features import FeatureCollator, FeatureStore, compute_features


DIM = 5


def _store(folder, count=40, shard_size=10, dtype=torch.float32, dim=DIM):
    def encode(names):
        rows = [torch.full((1 + int(name) % 3, dim), float(name), dtype=dtype) for name in names]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
        return tokens, mask

    names = [str(i) for i in range(count)]
    return compute_features(
        encode, names, cache_dir=folder, key={}, batch_size=4, shard_size=shard_size, progress=False
    )


def _check(store, count=40):
    features, mask = store.batch(range(count))
    for row in range(count):
        assert mask[row].sum() == 1 + row % 3
        assert (features[row, : 1 + row % 3] == row).all()


@pytest.fixture(params=["preadv", "seek"])
def way(request, monkeypatch):
    if request.param == "seek":
        monkeypatch.delattr(os, "preadv")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rows_come_back(tmp_path, dtype):
    _check(_store(tmp_path, dtype=dtype))


@pytest.mark.usefixtures("way")
def test_more_shards_than_files_kept_open(tmp_path):
    store = _store(tmp_path, count=150, shard_size=1)
    for _ in range(2):
        _check(store, 150)


@pytest.mark.usefixtures("way")
def test_a_file_that_became_shorter_is_named_and_can_be_rebuilt(tmp_path):
    store = _store(tmp_path)
    _check(store)
    for path in store.folder.glob("rows-*.safetensors"):
        os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(ValueError, match=r"rows-.*\.safetensors is shorter than when it was opened"):
        store.batch(range(40))
    _check(_store(tmp_path))


def test_a_rebuilt_store_does_not_get_the_old_files(tmp_path):
    old = _store(tmp_path)
    _check(old)
    for path in old.folder.glob("rows-*.safetensors"):
        data = path.read_bytes()
        path.write_bytes(data[:-4] + b"\0\0\0\1")
    _check(_store(tmp_path))


def test_reads_on_where_a_read_was_short(tmp_path, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda number, views, place: whole(number, [views[0][:3]], place))
    _check(_store(tmp_path))


def test_opened_by_a_relative_path_and_read_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = _store("cache")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    _check(store)


def test_features_without_width(tmp_path):
    assert _store(tmp_path, dim=0).batch([0, 1])[0].shape == (2, 2, 0)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="lists Linux's open files")
def test_a_store_that_is_gone_holds_no_file(tmp_path):
    store = _store(tmp_path)
    _check(store)

    def held():
        paths = (os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
        return sum(path.startswith(str(store_folder)) for path in paths)

    store_folder = store.folder.resolve()
    assert held() == 4
    del store
    gc.collect()
    assert held() == 0


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_read_in_the_workers_of_a_loader(tmp_path, start):
    store = _store(tmp_path)
    _check(store)  # so that a forked worker inherits open files
    rows = [{"context_features": i, "query_features": i} for i in range(40)]
    loader = DataLoader(
        rows,
        batch_size=8,
        collate_fn=FeatureCollator(store, FeatureStore(store.folder)),
        num_workers=2,
        multiprocessing_context=start,
    )
    found = torch.cat([batch["context_features"][:, 0, 0] for batch in loader])
    assert found.tolist() == list(range(40))
