"""The page about a merge: its structure, its numbers, and what it does with words that are no words."""

import html.parser
import re
import sys

import pytest
import torch
from PIL import Image

from otmerge_hf import OTMergeModel
from otmerge_hf.analysis import jacobian_spectrum, layer_similarity, reconstruction_errors, word_plan, write_report
from otmerge_hf.analysis.report_pairs import gap_without_common_axes
from otmerge_hf.data import PairSplit, Questions
from otmerge_hf.features import embed, encode, mean_features
from otmerge_hf.hub import start_facts
from otmerge_hf.metrics import linear_cka, modality_gap, retrieval
from otmerge_hf.model.adapters import OrthogonalAdapter
from tests import browser


HOSTILE = "a red <script>alert(1)</script>\"><img src='https://evil.example/x.png' onerror=a()> $\\foo$ & `b`"
COLORS = ("red", "green", "blue", "white", "black", "yellow")


class Page(html.parser.HTMLParser):
    """Tags with their attributes, in order; the cells of each table by its caption; all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.tables, self._open = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.caption, self.rows = "", []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self._open = tag if tag in ("caption", "td", "th") else self._open

    def handle_endtag(self, tag):
        self._open = None if tag == self._open else self._open
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        self.texts.append(data)
        if self._open == "caption":
            self.caption += data
        elif self._open:
            self.rows[-1][-1] += data

    def table(self, start):
        (found,) = [rows for caption, rows in self.tables.items() if caption.startswith(start)]
        return {row[0]: row[1:] for row in found}

    def attributes(self, tag):
        return [given for name, given in self.tags if name == tag]


@pytest.fixture
def pairs():
    """Six pictures, no two alike, two captions each; one is hostile."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for color in COLORS:
        image = Image.new("RGB", (32, 32), color)
        image.paste("gray", (*torch.randint(0, 16, (2,), generator=generator).tolist(), 20, 30))
        images.append(image)
    texts = ["the red shape", "what color is the blue shape ?", "a green shape", "is there a shape ?", "yes", HOSTILE]
    return PairSplit(images, texts, torch.tensor([[i, j % 6] for i in range(6) for j in (i, i + 1)]))


@pytest.fixture
def enough(pairs):
    """As many as alignment against preservation is shown of."""
    images = [*pairs.images, *(Image.new("RGB", (32, 32), (10 * i, 90, 255 - 10 * i)) for i in range(18))]
    texts = [*pairs.texts, *("the red shape " * (2 + i) for i in range(18))]
    return PairSplit(images, texts, torch.arange(24)[:, None].expand(-1, 2))


@pytest.fixture
def questions(pairs):
    answers = [("red",), ("green", HOSTILE), ()]
    return Questions(pairs.images, [HOSTILE, *pairs.texts[:2]], [0, 1, 2], [0, 1, 2], answers)


def test_the_page_stands_alone_is_in_order_and_escapes(merge, processor, enough, questions, tmp_path):
    model = merge(id2label={0: HOSTILE, 1: "b", 2: "c"}, reconstruction=True)
    facts = start_facts(model.config, HOSTILE)
    written = write_report(
        tmp_path,
        model,
        processor,
        facts=facts,
        pairs=enough,
        questions=questions,
        examples=2,
        cache_dir=tmp_path / "f",
    )
    text = written.read_text()
    page = Page(text)
    count = {
        tag: [name for name, _ in page.tags].count(tag) for tag in ("h1", "main", "nav", "header", "script", "base")
    }
    assert count == {"h1": 1, "main": 1, "nav": 1, "header": 1, "script": 0, "base": 0}
    assert page.attributes("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels == [1] + [2] * 8
    names = [given["id"] for _, given in page.tags if "id" in given]
    assert len(set(names)) == len(names)
    assert {link["href"] for link in page.attributes("a")} == {f"#{name}" for name in names}
    images = page.attributes("img")
    assert len(images) == len(list(tmp_path.glob("*.png"))) == 7
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert re.search(r"\d", image["alt"]), "what it shows, with numbers"
        assert int(image["width"]) * int(image["height"]) > 0
    assert not [given for _, given in page.tags if any(name.startswith("on") for name in given)]
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?\s*(?:https?:|//)", re.sub(r'="data:[^"]*"', "", text))
    assert page.attributes("table")
    assert len(page.attributes("caption")) == len(page.attributes("table")) == len(page.tables)
    assert all(given["scope"] in ("row", "col") for given in page.attributes("th"))
    shown = "".join(page.texts)
    assert shown.count("<script>alert(1)</script>") >= 3, "as text: in the title, a question and an answer"
    assert f"true: green, {HOSTILE.replace('`', '')}." in shown
    assert "true: not known." not in shown, "of three rows the first and the second are shown"
    assert "Everything was shown." in shown


def test_numbers_are_those_of_the_functions(merge, processor, pairs, tmp_path):
    model = merge(cls=OTMergeModel, adapter_type="linear", shared_dim=24)
    with torch.no_grad():  # a scale that is not the identity, and an adapter that says too much
        model.fit_standardization(context=(torch.full((16,), 0.1), torch.full((16,), 2.0)))
        model.query_adapter.map.weight[:, 3:] = 0
    page = Page(write_report(tmp_path, model, processor, pairs=pairs, examples=1).read_text())
    stores = {
        side: encode(model, processor, side, inputs, cache_dir=tmp_path / "f", progress=False)
        for side, inputs in (("context", pairs.images), ("query", pairs.texts))
    }

    adapters = page.table("Adapters, linear")
    for side in ("context", "query"):
        tokens, mask = stores[side].batch(range(6))
        tokens = getattr(model, f"{side}_standardizer")(tokens)[mask.bool()]
        adapter = getattr(model, f"{side}_adapter")
        spectrum = jacobian_spectrum(adapter, tokens[:5])
        assert float(adapters[side][2]) == pytest.approx(reconstruction_errors(adapter, tokens).inverse, rel=0.01)
        assert adapters[side][4] == f"{spectrum.condition[0].item():.4g}"
        assert adapters[side][6] == f"{spectrum.effective_dimension[0].item():.1f}"
    assert (adapters["context"][5], adapters["query"][5]) == ("16 of 16", "3 of 16")
    assert "The query adapter flattens 13 directions" in "".join(page.texts)

    raw = [mean_features(store) for store in stores.values()]
    gaps = page.table("Modality gap")
    images, texts = (embed(model, store, side) for side, store in stores.items())
    assert gaps["frozen features"] == [f"{gap_without_common_axes(*raw):.4f}"]
    assert gaps["shared space"] == [f"{modality_gap(images, texts):.4f}"]

    recalls, found = page.table("Recall@k"), retrieval(images, texts, pairs.pairs, ks=(1, 2, 5))
    assert list(recalls) == ["k", "1", "2", "5"]
    for k in (1, 2, 5):
        assert recalls[str(k)][0] == f"{found[f'context_to_query_recall@{k}']:.4f}"
        assert recalls[str(k)][2] == f"{found[f'query_to_context_recall@{k}']:.4f}"
    assert recalls["1"][1] == f"{2 / 6:.4f}", "each image has two of six texts"

    cka = layer_similarity(model, processor, pairs.images, pairs.texts).cka  # the first caption of each
    layers = page.table("Debiased CKA")
    assert layers["context 2"] == [f"{value:.3f}" for value in cka[2].tolist()]

    inputs = processor(images=[pairs.images[0]], text=[pairs.texts[0]], return_tensors="pt")
    plan = word_plan(model, inputs)[0, 1:-1, 1:]  # without the special words and the class token
    words = page.table("Words of example 1")
    assert list(words) == ["word", "the", "red", "shape"]
    for cells, row in zip(list(words.values())[1:], plan, strict=True):
        place = int(row.argmax())
        assert cells[1:] == [f"row {place // 4 + 1}, column {place % 4 + 1}", f"{row.max() / row.sum():.3f}"]


def test_what_cannot_be_shown_is_told_in_a_line_each(merge, processor, pairs, tmp_path):
    page = "".join(Page(write_report(tmp_path, merge(adapter_type="mlp"), processor).read_text()).texts)
    for what in (
        "Reconstruction",
        "Singular values",
        "Modality gap",
        "Retrieval curve",
        "Alignment against preservation",
        "Layer-by-layer",
        "Words and",
    ):
        assert page.count(f"\n{what}") == 1, what
    few = PairSplit(pairs.images[:3], pairs.texts[:2], torch.tensor([[0, 0], [1, 1], [2, 0]]))
    model = merge(cls=OTMergeModel, context_tokens="pooled", adapter_type="orthogonal")
    page = "".join(Page(write_report(tmp_path, model, processor, pairs=few).read_text()).texts)
    assert "3 images with captions are too few; 4 are the least" in page
    assert "the merge takes one token an image (context_tokens), which has no patches" in page
    assert "16 of 16" in page


def test_a_merge_of_sounds_is_reported_without_images(merge, processor, pairs, tmp_path):
    model = merge("whisper", adapter_type="linear")
    assert "Adapters, `linear`".replace("`", "") in "".join(
        Page(write_report(tmp_path, model, None).read_text()).texts
    )
    with pytest.raises(ValueError, match="and the merge looks at audio features; leave them out"):
        write_report(tmp_path, model, None, pairs=pairs)


def test_pairs_of_sounds_are_not_shown_of_a_merge_of_images(merge, processor, tmp_path):
    sounds = PairSplit(["a.wav"], ["one"], torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match="pairs hold sounds, and the merge looks at images"):
        write_report(tmp_path, merge(), processor, pairs=sounds)


def test_without_matplotlib_nothing_is_begun(merge, processor, pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="needs matplotlib; run: pip install matplotlib"):
        write_report(tmp_path / "out", merge(), processor, pairs=pairs, cache_dir=tmp_path / "f")
    assert not list(tmp_path.iterdir())


def test_gap_before_alignment_is_the_mean_over_random_frames():
    torch.manual_seed(0)
    x, y = torch.randn(30, 5) + 1, torch.randn(20, 3) - 2
    frames = []
    for _ in range(500):
        frame = OrthogonalAdapter(3, 64)
        torch.nn.init.orthogonal_(frame.free)
        torch.nn.init.zeros_(frame.bias)
        padded = torch.nn.functional.pad(x, (0, 59))
        frames.append(modality_gap(padded, frame(y)) ** 2)
    assert gap_without_common_axes(x, y) ** 2 == pytest.approx(sum(frames) / len(frames), rel=0.03)


def test_layers_are_compared_on_the_means_of_their_own_tokens(merge, processor, pairs):
    model = merge()
    found = layer_similarity(model, processor, pairs.images, pairs.texts)
    pixels = processor(images=pairs.images, text=["a"] * 6, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        context = model.otmerge.context_encoder(pixels, output_hidden_states=True).hidden_states
        query = [
            model.otmerge.query_encoder(**processor(text=[text], return_tensors="pt"), output_hidden_states=True)
            for text in pairs.texts
        ]
    assert found.cka.shape == (3, 3)
    for row in range(3):
        for column in range(3):
            texts = torch.cat([outputs.hidden_states[column].mean(dim=1) for outputs in query])
            expected = linear_cka(context[row].mean(dim=1), texts, debiased=True)
            assert found.cka[row, column].item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="4 pairs at least; got 3 and 3"):
        layer_similarity(model, processor, pairs.images[:3], pairs.texts[:3])


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(merge, processor, enough, questions, tmp_path, width):
    page = write_report(tmp_path / "out", merge(), processor, pairs=enough, questions=questions)

    async def look(call):
        inner, outer = await browser.evaluate(call, "[document.documentElement.scrollWidth, innerWidth]")
        broken = await browser.evaluate(call, "[...document.images].filter(image => !image.naturalWidth).length")
        place = "(e => e.getAttribute('href') || e.getAttribute('aria-label'))(document.activeElement)"
        stops = []
        for _ in range(9 + len(Page(page.read_text()).tables)):
            await browser.press(call, "Tab")
            stops.append(await browser.evaluate(call, place))
        return inner, outer, broken, stops, await browser.named_nodes(call)

    chromium = browser.Browser(tmp_path)
    try:
        (inner, outer, broken, stops, roles), events = chromium.visit(page.as_uri(), look, width)
    finally:
        chromium.close()
    assert (outer, broken) == (width, 0)
    assert inner <= width, "nothing but tables scrolls sideways, and these by themselves"
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert not [event for event in events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert stops == ["#content", *(f"#part-{i + 1}" for i in range(8)), *Page(page.read_text()).tables]
    assert {"banner", "navigation", "main"} <= {role for role, _ in roles}
    assert [role for role, _ in roles].count("heading") == 9
    assert all(name for role, name in roles if role in ("image", "table", "link", "heading"))
