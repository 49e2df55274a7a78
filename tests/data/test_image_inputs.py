"""Images of a column, opened one at a time; one that cannot be is named by its row."""

import io

import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from otmerge_hf.data import ImageInputs
from otmerge_hf.features.keys import inputs_key


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
