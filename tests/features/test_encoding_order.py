"""Texts of like length are encoded together, images are opened ahead, and neither shows in the store."""

import threading

import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from otmerge_hf import OTMergeProcessor
from otmerge_hf.features import FeatureStore, encode
from otmerge_hf.features.batches import in_batches, open_ahead
from otmerge_hf.features.encoding import usual_batch_size, usual_workers
from otmerge_hf.model.modality import IMAGE, QUERY


WORDS = ("what", "color", "is", "the", "circle", "red", "blue")
TEXTS = [" ".join((*(WORDS[(i + j) % 7] for j in range(1 + (i * 5) % 9)), WORDS[i % 7])) for i in range(23)]


@pytest.fixture
def processor(tokenizer):
    return OTMergeProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer)


def noise(folder, count=7):
    files = []
    for i in range(count):
        files.append(folder / f"{i}.png")
        Image.effect_noise((40, 30), 50 + i).convert("RGB").save(files[-1])
    return files


def test_a_shard_is_encoded_from_its_longest_text_to_its_shortest(merge, processor, tmp_path, monkeypatch):
    model, seen = merge(), []
    call = type(processor).__call__
    monkeypatch.setattr(
        type(processor), "__call__", lambda self, **given: seen.append(given["text"]) or call(self, **given)
    )
    options = {"cache_dir": tmp_path, "shard_size": 10, "batch_size": 4, "progress": False}
    encode(model, processor, "query", TEXTS, **options)
    lengths = [[len(text) for text in batch] for batch in seen]
    assert [len(batch) for batch in seen] == [4, 4, 2, 4, 4, 2, 3]
    for shard in ([*lengths[0], *lengths[1], *lengths[2]], [*lengths[3], *lengths[4], *lengths[5]], lengths[6]):
        assert shard == sorted(shard, reverse=True)
    assert sorted(text for batch in seen[:3] for text in batch) == sorted(TEXTS[:10])


def test_a_row_alone_is_the_row_of_its_batch(merge, processor, tmp_path):
    model = merge().eval()
    store = encode(model, processor, "query", TEXTS, cache_dir=tmp_path, shard_size=10, batch_size=4, progress=False)
    for row, text in enumerate(TEXTS):
        features, mask = store.batch([row])
        raw = processor(text=text, return_tensors="pt")
        assert mask.sum() == raw["attention_mask"].sum()
        with torch.no_grad():
            cached = model.otmerge.get_query_embeds(query_features=features, query_features_mask=mask)
            torch.testing.assert_close(cached, model.otmerge.get_query_embeds(**raw), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", ["context", "query"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_was_killed_ends_in_the_same_bytes(merge, processor, tmp_path, side, workers):
    class PowerCutError(Exception):
        pass

    model = merge()
    inputs = TEXTS if side == "query" else noise(tmp_path)
    options = {"shard_size": 3, "batch_size": 2, "progress": False, "workers": workers}
    whole = encode(model, processor, side, inputs, cache_dir=tmp_path / "whole", **options)
    encoder, calls = getattr(model.otmerge, f"{side}_encoder"), []

    def cut(*args):
        calls.append(args)
        if len(calls) == 4:
            raise PowerCutError

    hook = encoder.register_forward_pre_hook(cut)
    with pytest.raises(PowerCutError):
        encode(model, processor, side, inputs, cache_dir=tmp_path / "cut", **options)
    hook.remove()
    (folder,) = (tmp_path / "cut").iterdir()
    assert len(list(folder.glob("rows-*"))) == 1
    with pytest.raises(FileNotFoundError):
        FeatureStore(folder)
    resumed = encode(model, processor, side, inputs, cache_dir=tmp_path / "cut", **options)
    assert resumed.shards_digest == whole.shards_digest
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("open-inputs")]


def test_workers_and_batch_size_are_no_part_of_the_key(merge, processor, tmp_path):
    model, files = merge(), noise(tmp_path)
    options = {"cache_dir": tmp_path / "cache", "progress": False}
    first = encode(model, processor, "context", files, workers=0, batch_size=3, **options)
    assert encode(model, processor, "context", files, workers=2, **options).reused
    again = encode(model, processor, "context", files, workers=2, cache_dir=tmp_path / "other", progress=False)
    torch.testing.assert_close(again.batch(range(7))[0], first.batch(range(7))[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_file_that_is_cut_short_is_named_with_its_row(merge, processor, tmp_path, workers):
    files = noise(tmp_path)
    for bad in (files[2], files[5]):
        bad.write_bytes(bad.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"inputs\[2\]: `image` '.*2\.png' cannot be opened"):
        encode(merge(), processor, "context", files, cache_dir=tmp_path / "c", workers=workers, progress=False)


def test_something_that_is_no_text_is_named_with_its_row(merge, processor, tmp_path):
    with pytest.raises(ValueError, match=r"inputs\[1\]: `text` holds a int"):
        encode(merge(), processor, "query", ["what", 3], cache_dir=tmp_path, progress=False)


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_few_batches_wait_opened(workers):
    opened, lock = [], threading.Lock()

    def load(item):
        with lock:
            opened.append(item)
        return item

    batches = [[i, i + 1] for i in range(0, 100, 2)]
    for taken, (rows, items) in enumerate(open_ahead(range(100), batches, load, workers), start=1):
        assert rows == items == batches[taken - 1]
        assert len(opened) <= 2 * (taken + 2)


def test_batches_hold_every_row_once_and_rows_of_one_length_in_order():
    inputs = ["aa", "b", "cc", "d", "eee"]
    assert list(in_batches(inputs, 1, 5, 2, str, len)) == [[4, 2], [1, 3]]
    assert list(in_batches(inputs, 1, 5, 3, str)) == [[1, 2, 3], [4]]


@pytest.mark.parametrize(("side", "expected"), [(224, 4), (64, 49), (32, 64), (448, 1), (1000, 1)])
def test_a_batch_of_images_has_as_many_pixels_whatever_their_size(side, expected):
    processor = ViTImageProcessor(size={"height": side, "width": side})
    assert usual_batch_size(IMAGE, processor, torch.device("cpu")) == expected
    assert usual_batch_size(IMAGE, processor, torch.device("cuda")) == 64
    assert usual_batch_size(QUERY, None, torch.device("cpu")) == 32


def test_no_worker_where_the_encoder_has_every_core(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    for threads, expected in ((1, 3), (4, 0), (8, 0)):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        assert usual_workers(torch.device("cpu")) == expected
    assert usual_workers(torch.device("cuda")) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert usual_workers(torch.device("cuda")) == usual_workers(torch.device("cpu")) == 0


def test_texts_that_are_cut_are_named(merge, processor, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(processor.tokenizer, "model_max_length", 12)
    long = "is there a red square ? " * 4
    encode(merge(), processor, "query", ["what", long], cache_dir=tmp_path, progress=False)
    assert "1 text is longer than the 12 tokens that are read; the rest is cut off: 'is there a red" in caplog.text
