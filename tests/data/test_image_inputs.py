"""Images of a column, opened one at a time; one that cannot be is named by its row."""

import io

import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from otmerge_hf.data import ImageInputs, load_source
from otmerge_hf.features.batches import open_ahead
from otmerge_hf.features.keys import inputs_key
from otmerge_hf.model.images import open_image


def jpeg(color):
    file = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(file, "JPEG")
    return file.getvalue()


def column(*records):
    return Dataset.from_list([{"image": record} for record in records]).cast_column("image", ImageFeature())


@pytest.mark.parametrize(("path", "name"), [(None, ""), ("b.jpg", r" \(b\.jpg\)")])
def test_an_image_cut_short_inside_a_table_is_named_by_its_row(path, name):
    whole = {"bytes": jpeg("red"), "path": None}
    images = ImageInputs(column(whole, whole, {"bytes": jpeg("blue")[:400], "path": path}), rows=[2, 0])
    assert images[1].size == (64, 48)
    with pytest.raises(ValueError, match=f"(?i)^row 2, column `image`{name}: .*truncated"):
        images[0]
    with pytest.raises(ValueError, match="row 2"):
        inputs_key(images)


def test_files_are_given_as_they_are(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg("red"))
    images = ImageInputs(column({"bytes": None, "path": str(tmp_path / "a.jpg")}))
    assert images[:] == [tmp_path / "a.jpg"]


def test_threads_may_open_images_of_one_table_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    colors = [(i, 255 - i, 128) for i in range(60)]
    column(*({"bytes": jpeg(color), "path": None} for color in colors)).to_parquet(tmp_path / "table.parquet")
    images = ImageInputs(load_source(tmp_path / "table.parquet"))
    batches = [list(range(i, i + 10)) for i in range(0, 60, 10)]
    one, several = (list(open_ahead(images, batches, open_image, workers)) for workers in (0, 4))
    assert [rows for rows, _ in several] == batches
    for (_, expected), (_, found) in zip(one, several, strict=True):
        assert [image.tobytes() for image in found] == [image.tobytes() for image in expected]
