import pytest
import torch
from PIL import Image

from otmerge_hf.analysis import EXPLANATIONS, answer_questions, attention_map, save_answers, save_gallery
from otmerge_hf.data import Questions


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
    texts = ["a", "what is $\\foo$ ?", "c"]  # no formula, whatever it looks like
    save_gallery(tmp_path / "page.png", images, texts, texts, ["a", "x", "c"], torch.rand(3, 2, 2), columns=2)
    with Image.open(tmp_path / "page.png") as page:
        assert page.format == "PNG"
        assert page.width > page.height


def test_gallery_makes_the_heat_itself(merge, batch, tmp_path, monkeypatch):
    images, texts, asked = [Image.new("RGB", (8, 8), "red")] * 3, ["a", "b", "c"], []
    for name in EXPLANATIONS:
        monkeypatch.setitem(EXPLANATIONS, name, lambda *given, name=name: asked.append(name) or torch.rand(3, 2, 2))
    given = {"model": merge(), "inputs": batch}
    save_gallery(tmp_path / "page.png", images, texts, texts, texts, **given)
    save_gallery(tmp_path / "other.png", images, texts, texts, texts, **given, explanation="plan")
    assert asked == ["occlusion", "plan"]
    assert (tmp_path / "page.png").is_file()


def test_gallery_says_what_it_lacks(merge, batch, tmp_path):
    page = (tmp_path / "page.png", [], [], [], [])
    with pytest.raises(ValueError, match="pass `model` and `inputs`"):
        save_gallery(*page, model=merge())
    with pytest.raises(ValueError, match="`explanation` is 'guess'; expected one of occlusion, attention"):
        save_gallery(*page, model=merge(), inputs=batch, explanation="guess")


def test_rows_of_questions_are_drawn_with_what_the_merge_says(merge, processor, images, tmp_path, monkeypatch):
    model, drawn = merge(), []
    monkeypatch.setattr("otmerge_hf.analysis.mistakes.save_gallery", lambda path, *page, **_: drawn.append(page))
    texts = ["what color is the shape ?", "is there a red shape ?"]
    questions = Questions(images, texts, [0, 1, 2, 2], [0, 1, 0, 1], [("red",), ("no",), ("blue", "blue", "red"), ()])
    said = [answer for (answer,), _ in answer_questions(model, processor, questions, progress=False)]
    save_answers(tmp_path / "page.png", model, processor, questions, [2, 1])
    save_answers(tmp_path / "page.png", model, processor, questions, [3], said=[("red", "blue")])
    pictures, asked, answers, true = drawn[0]
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(0, 0, 255), (0, 128, 0)]
    assert (asked, answers, true) == ([texts[0], texts[1]], [said[2], said[1]], ["blue, red", "no"])
    assert drawn[1][1:] == ([texts[1]], ["red, blue"], [""])
