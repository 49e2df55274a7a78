import pytest
import torch

from otmerge_hf.features import compute_features, mean_features
from otmerge_hf.features.means import CHUNK_ROWS


def _store(folder, rows, dtype=torch.float32):
    def encode(names):
        picked = [rows[int(name)] for name in names]
        # Padding holds nonsense: only the mask says what counts.
        tokens = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True, padding_value=1e4)
        lengths = torch.tensor([len(row) for row in picked])
        return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]

    names = [str(row) for row in range(len(rows))]
    return compute_features(
        encode, names, cache_dir=folder, key={}, batch_size=64, dtype=dtype, progress=False, shard_size=200
    )


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1 + i % 5, 6, generator=generator) + i for i in range(CHUNK_ROWS + 40)]


def test_equals_each_rows_own_mean_over_several_chunks(tmp_path, rows):
    means = mean_features(_store(tmp_path, rows))
    assert means.dtype == torch.float32
    torch.testing.assert_close(means, torch.stack([row.mean(0) for row in rows]))


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_takes_rows_in_the_order_asked_for(tmp_path, rows, kind):
    ids = [CHUNK_ROWS + 1, 0, 7, 0]
    means = mean_features(_store(tmp_path, rows), kind(ids))
    torch.testing.assert_close(means, torch.stack([rows[i].mean(0) for i in ids]))


def test_half_precision_features_are_summed_in_float32(tmp_path):
    rows = [torch.full((300, 1), 0.1), torch.full((7, 1), 3.0)]
    means = mean_features(_store(tmp_path, rows, torch.bfloat16))
    assert means.dtype == torch.float32
    # A sum in bfloat16 has 8 bits: it would stop growing before 30.
    expected = torch.tensor([[0.1], [3.0]]).bfloat16().float()
    torch.testing.assert_close(means, expected, rtol=1e-5, atol=0)


def test_refuses_no_rows_and_rows_that_are_not_there(tmp_path, rows):
    store = _store(tmp_path, rows)
    with pytest.raises(ValueError, match="ids must name at least one row"):
        mean_features(store, [])
    with pytest.raises(IndexError, match="row 999 is out of range"):
        mean_features(store, [0, 999])


def test_means_of_all_rows_are_kept_and_damage_is_noticed(tmp_path, rows, caplog):
    store = _store(tmp_path, rows)
    first = mean_features(store)
    path = store.folder / "means.safetensors"
    written = path.read_bytes()
    assert torch.equal(mean_features(store), first)
    assert path.read_bytes() == written
    for damage in (written[:-4], written[:-4] + b"\x00\x01\x02\x03"):
        path.write_bytes(damage)
        caplog.clear()
        assert torch.equal(mean_features(store), first)
        assert "means.safetensors is damaged" in caplog.text
        assert path.read_bytes() == written


def test_means_of_another_store_are_not_used(tmp_path, rows, caplog):
    one, two = _store(tmp_path / "one", rows), _store(tmp_path / "two", [row + 1 for row in rows])
    mean_features(one)
    (one.folder / "means.safetensors").rename(two.folder / "means.safetensors")
    torch.testing.assert_close(mean_features(two), torch.stack([row.mean(0) + 1 for row in rows]))
    assert "belongs to other features" in caplog.text
