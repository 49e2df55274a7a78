import pytest
import torch

from otmerge_hf.metrics import (
    GeometryMetric,
    RetrievalMetric,
    foscttm,
    linear_cka,
    pairs_from_groups,
    retrieval,
    squared_wasserstein2,
)


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 6, generator=generator)
    return x, x + 0.7 * torch.randn(30, 6, generator=generator)


@pytest.mark.parametrize("in_memory", [True, False])
def test_batches_give_the_function_s_numbers(embeddings, in_memory, tmp_path):
    x, y = embeddings
    metric = RetrievalMetric(keep_in_memory=in_memory, cache_dir=str(tmp_path))
    for start in range(0, 30, 12):
        metric.add_batch(predictions=x[start : start + 12], references=y[start : start + 12])
    result = metric.compute(ks=(1, 3))
    expected = retrieval(x, y, ks=(1, 3)) | {"foscttm": foscttm(x, y, similarity="cosine")}
    assert result == pytest.approx(expected)


def test_compute_takes_numpy_arrays(embeddings, tmp_path):
    x, y = embeddings
    result = RetrievalMetric(cache_dir=str(tmp_path)).compute(predictions=x.numpy(), references=y.numpy())
    assert result["mean_recall@1"] == pytest.approx(retrieval(x, y)["mean_recall@1"])


def test_groups_count_an_image_once(embeddings, tmp_path):
    x, y = embeddings
    groups = torch.arange(30) // 3
    images = x[::3]  # one image, three captions
    metric = RetrievalMetric("grouped", cache_dir=str(tmp_path))
    metric.add_batch(predictions=images[groups], references=y, groups=groups)
    pairs = pairs_from_groups(torch.arange(10), groups)
    expected = retrieval(images, y, pairs)
    result = metric.compute()
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_unknown_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="config_name must be one of"):
        RetrievalMetric("captions", cache_dir=str(tmp_path))


def test_geometry_metric(embeddings, tmp_path):
    x, y = embeddings
    metric = GeometryMetric(cache_dir=str(tmp_path))
    metric.add_batch(predictions=x, references=y)
    result = metric.compute(k=5)
    assert result["linear_cka"] == pytest.approx(linear_cka(x, y))
    assert result["squared_wasserstein2"] == pytest.approx(squared_wasserstein2(x, y))
    again = metric.compute(predictions=x, references=y, wasserstein=False)  # a metric can be used twice
    assert "squared_wasserstein2" not in again
