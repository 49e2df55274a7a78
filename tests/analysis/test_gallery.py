import pytest
import torch
from PIL import Image

from otmerge_hf.analysis import attention_map, save_gallery


def test_attention_map_drops_class_token_and_padded_questions():
    weights = torch.zeros(1, 2, 3, 5)
    weights[..., 0] = 0.2  # class token
    weights[0, :, :2, 4] = 0.8
    weights[0, :, 2, 1] = 0.8  # a padded question token looks elsewhere
    found = attention_map([weights, weights], torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0], [0.0, 0.8]]]))


def test_attention_map_needs_attention():
    with pytest.raises(ValueError, match="no attention"):
        attention_map([])


def test_gallery_is_a_png(tmp_path):
    images = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    texts = ["a", "b", "c"]
    save_gallery(tmp_path / "page.png", images, texts, texts, ["a", "x", "c"], torch.rand(3, 2, 2), columns=2)
    with Image.open(tmp_path / "page.png") as page:
        assert page.format == "PNG"
        assert page.width > page.height
