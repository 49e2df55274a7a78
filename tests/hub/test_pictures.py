"""A report's pictures in the model card: those that are there, by relative links, in words too."""

import io
import re
from html import escape

import pytest
import torch
from card_results import ALIGNMENT
from PIL import Image

from otmerge_hf.analysis import write_report
from otmerge_hf.hub import write_card
from otmerge_hf.hub.facts import CardPicture
from otmerge_hf.hub.model_card import _picture
from otmerge_hf.hub.pictures import describe_png, without_pictures
from otmerge_hf.hub.save import save_merge
from otmerge_hf.hub.write import write_hub_card
from otmerge_hf.model.modeling_otmerge import OTMergeModel


def test_the_card_shows_what_the_report_left_in_the_folder(save, merge):
    folder = save("mine", answers=False)
    before = write_card(folder).read_text()
    assert "## Pictures" not in before
    write_report(folder / "report", merge(cls=OTMergeModel, adapter_type="linear"), None)
    drawn = (folder / "report" / "spectra.png").read_bytes()
    (folder / "report" / "words-1.png").write_bytes(describe_png(drawn, "mine", "a photograph of mine"))
    plain = io.BytesIO()
    Image.open(io.BytesIO(drawn)).convert("RGB").save(plain, "PNG")
    (folder / "report" / "other.png").write_bytes(plain.getvalue())
    (folder / "report" / "gap.png").write_bytes(describe_png(drawn, "Gap", "0.3 before [frozen], 0.1 after é"))

    card = write_card(folder).read_text()
    (section,) = re.findall(r"## Pictures\n\n(.*?)\n\n## ", card, flags=re.DOTALL)
    found = re.findall(r"!\[(.*)\]\((.*)\)", section)
    assert [path for _, path in found] == ["report/gap.png", "report/spectra.png"]
    assert found[0][0] == r"0.3 before \[frozen\], 0.1 after é"
    assert re.search(r"context: from \d", found[1][0])
    assert "Singular values of the adapters' Jacobians" in section
    assert without_pictures(card) == before


def test_pictures_of_another_merge_do_not_stay_for_the_card(save, merge, processor):
    folder, model = save("mine", answers=False), merge(cls=OTMergeModel, adapter_type="linear")
    save_merge(folder, model, processor, ALIGNMENT)
    write_report(folder / "report", model, None)
    (folder / "report" / "mine.txt").write_text("a note")
    save_merge(folder, model, processor, ALIGNMENT)  # the same weights: the pictures are still of them
    assert "spectra.png" in (folder / "README.md").read_text()
    with torch.no_grad():
        model.context_adapter.map.weight += 1
    save_merge(folder, model, processor, ALIGNMENT)
    assert "## Pictures" not in (folder / "README.md").read_text()
    assert not (folder / "report" / "spectra.png").exists()
    assert (folder / "report" / "mine.txt").exists()


def test_words_of_a_picture_are_shown_as_they_are(save):
    """A PNG from elsewhere may say anything; on the card it is text."""
    folder, file = save("mine"), io.BytesIO()
    before = write_card(folder).read_text()
    Image.new("L", (2, 2)).save(file, "PNG")
    title, words = "<b>Bold</b>\n\n## Use", "[x](http://a) `y`\n\n![](z) <img src=q>"
    (folder / "report").mkdir()
    (folder / "report" / "a (1).png").write_bytes(describe_png(file.getvalue(), title, words))
    card = write_card(folder).read_text()
    (section,) = re.findall(r"## Pictures\n\n(.*?)\n\n## ", card, flags=re.DOTALL)
    html = pytest.importorskip("markdown_it").MarkdownIt().render(section)
    assert html == (
        "<p>&lt;b&gt;Bold&lt;/b&gt; ## Use:</p>\n"
        '<p><img src="report/a%20%281%29.png" alt="[x](http://a) `y` ![](z) &lt;img src=q&gt;" /></p>\n'
    )
    assert without_pictures(card) == before


@pytest.mark.parametrize("title", ["- item", "+ item", "1. item", "23) item", "* item", "# item", "> item", "1.5 - 2"])
def test_a_title_is_no_list(title):
    html = pytest.importorskip("markdown_it").MarkdownIt().render(_picture(CardPicture("a.png", title, title)))
    shown = escape(title)
    assert html == f'<p>{shown}:</p>\n<p><img src="a.png" alt="{shown}" /></p>\n'


def test_what_is_called_png_and_is_none_reaches_no_other_reader(save):
    """Pillow reads EPS by starting Ghostscript."""
    folder = save("mine")
    (folder / "report").mkdir()
    eps = folder / "report" / "gap.png"
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(ValueError, match=r"^\S*gap\.png is no PNG that can be read$"):
        write_card(folder)


def test_a_picture_that_is_described_has_the_pixels_it_had():
    file = io.BytesIO()
    Image.effect_noise((8, 8), 50).save(file, "PNG")
    described = Image.open(io.BytesIO(describe_png(file.getvalue(), "Noise", "64 pixels")))
    assert described.tobytes() == Image.open(file).tobytes()
    assert described.text == {"Title": "Noise", "Description": "64 pixels"}


def test_a_card_that_goes_up_without_the_report_shows_no_pictures(save, merge, tmp_path):
    folder = save("mine")
    write_report(folder / "report", merge(adapter_type="linear"), None)
    card = write_card(folder).read_text()
    assert "report/spectra.png" in card
    (tmp_path / "up").mkdir()
    write_hub_card(tmp_path / "up", "org/mine", before=card)
    assert (tmp_path / "up" / "README.md").read_text() == without_pictures(card)
